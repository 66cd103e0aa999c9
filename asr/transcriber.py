"""From recordings to text with times: audio → pieces → batches → words."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.audio import load_audio
from asr.bundle import load_bundle, packaged_model
from asr.decoding.alignment import Word, align_words
from asr.decoding.build import build_decoder
from asr.decoding.calibration import Calibration
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.hypothesis import Decoder, Hypothesis
from asr.errors import AsrError, ConfigError
from asr.lm.lexicon import read_lexicon
from asr.lm.word_model import WordModel
from asr.models.ctc import CtcModel
from asr.segmentation import split_at_pauses

BATCH_SECONDS = 120.0
MOST_BATCHES = 8  # sorted by length together
READ_AHEAD = 4  # files decoded while the model works
SILENCE_PEAK = 1e-4  # -80 dB: nothing but the noise of a converter
SHORTEST_SECONDS = 0.1  # no word is shorter


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech; ``start`` and ``end`` in seconds."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in a recording.

    Attributes:
        path: the recording, as it was named.
        duration: its length in seconds.
        text: the whole text.
        segments: its stretches in order, those without words left out.
    """

    path: str
    duration: float
    text: str
    segments: tuple[Segment, ...]

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all segments."""
        return tuple(word for segment in self.segments for word in segment.words)

    @property
    def confidence(self) -> float:
        """The share of words that is expected to be right, 0..1; 1 if there are none."""
        words = self.words
        return sum(word.confidence for word in words) / len(words) if words else 1.0


@dataclass
class _File:
    """A recording on its way."""

    path: str
    duration: float = 0.0
    pending: int = 0  # pieces not yet transcribed
    segments: list[Segment] = field(default_factory=list)
    error: AsrError | None = None

    def result(self) -> Transcript | AsrError:
        if self.error:
            return self.error
        segments = sorted(self.segments, key=lambda segment: segment.start)
        text = " ".join(segment.text for segment in segments)
        return Transcript(self.path, self.duration, text, tuple(segments))


@dataclass
class _Piece:
    """A stretch of a recording that is transcribed at once."""

    file: _File
    waveform: np.ndarray
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Transcriber:
    """Turns recordings into text with one model.

    Args:
        model: the acoustic model.
        device: where it runs.
        decoder: finds the text in its log-probabilities; greedy if ``None``.
        calibration: of the words' confidences.
    """

    def __init__(
        self,
        model: CtcModel,
        device: torch.device,
        decoder: Decoder | None = None,
        calibration: Calibration = Calibration(),  # noqa: B008 (frozen)
    ) -> None:
        self.model = model.to(device).eval()
        self.device = device
        self.decoder = decoder or GreedyDecoder(model.tokenizer)
        self.calibration = calibration
        self.sample_rate = model.features_config.sample_rate

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        device: str | None = None,
        *,
        language_model: str | Path | None = None,
        lexicon: str | Path | None = None,
        hotwords: Sequence[str] = (),
        **settings: Any,
    ) -> "Transcriber":
        """Load a model bundle.

        Args:
            model: path of the bundle; the packaged one if ``None``.
            device: ``cpu``, ``cuda``, ``cuda:1`` …; a GPU if there is one, if ``None``.
            language_model: ARPA file to decode with; that of the bundle if ``None``.
            lexicon: file of the words to use, one a line; all of the language model if ``None``.
            hotwords: words and phrases to favour.
            settings: of :class:`~asr.decoding.config.DecoderConfig`, such as ``method="greedy"``
                or ``beam_width=50``; those of the bundle where not given, but whoever gives a
                language model, a lexicon or hotwords wants a beam.

        Raises:
            BundleError: the model cannot be loaded.
            ConfigError: the device does not exist; decoder settings contradict each other.
            LanguageModelError: the language model or lexicon cannot be used.
        """
        chosen = choose_device(device)
        bundle = load_bundle(model or packaged_model())
        if language_model or lexicon or hotwords:
            settings.setdefault("method", "beam")
        config = replace(bundle.decoder, **settings)
        if config.method == "greedy" and (language_model or lexicon or hotwords):
            raise ConfigError("greedy decoding takes no language model, lexicon or hotwords")
        tokenizer = bundle.model.tokenizer
        words = read_lexicon(lexicon) if lexicon else None
        with bundle.language_model_file() as packed:
            path = language_model or packed
            ngrams = None
            if path and config.method == "beam":
                ngrams = WordModel(path, tokenizer.alphabet)
            decoder = build_decoder(tokenizer, config, ngrams, words=words, hotwords=hotwords)
        calibration = Calibration(config.confidence_scale, config.confidence_offset)
        return cls(bundle.model, chosen, decoder, calibration)

    def transcribe(self, path: str | Path) -> Transcript:
        """Transcribe one recording; ``-`` reads standard input.

        Raises:
            AudioError: the recording cannot be read.
        """
        [result] = self.transcribe_many([path])
        if isinstance(result, AsrError):
            raise result
        return result

    def transcribe_many(
        self,
        paths: Iterable[str | Path],
        batch_seconds: float = BATCH_SECONDS,
        on_progress: Callable[[float], None] | None = None,
    ) -> Iterator[Transcript | AsrError]:
        """Transcribe recordings together, which is faster than one by one.

        Long recordings are cut into pieces, and pieces of similar length from all recordings
        share a batch. What is in a batch never changes a result.

        Args:
            paths: the recordings.
            batch_seconds: most audio in a batch, padding included; a single piece may exceed it.
            on_progress: called with the seconds of audio done, after each batch.

        Yields:
            One result per path in the order given, each as soon as it and those before it are
            ready: a transcript, or the error that kept the recording from being read.

        Raises:
            ConfigError: ``batch_seconds`` is not above 0 or too much for the GPU's memory.
        """
        if not batch_seconds > 0:
            raise ConfigError(f"batch_seconds {batch_seconds} is not above 0")
        files: deque[_File] = deque()
        window: list[_Piece] = []
        seconds, enough = 0.0, batch_seconds  # grows, so that the first result comes soon
        for file, waveform in self._read(paths):
            files.append(file)
            for piece in self._pieces(file, waveform):
                window.append(piece)
                seconds += piece.seconds
                if seconds >= enough:
                    self._transcribe_pieces(window, batch_seconds, on_progress)
                    window, seconds = [], 0.0
                    enough = min(2 * enough, MOST_BATCHES * batch_seconds)
                    yield from _finished(files)
            yield from _finished(files)
        self._transcribe_pieces(window, batch_seconds, on_progress)
        yield from _finished(files)

    def _read(self, paths: Iterable[str | Path]) -> Iterator[tuple[_File, np.ndarray]]:
        """Decode recordings in the background, a few ahead of the model."""
        pool = ThreadPoolExecutor(min(READ_AHEAD, os.cpu_count() or 1))
        ahead: deque[Future[tuple[_File, np.ndarray]]] = deque()
        try:
            for path in paths:
                if path == "-":  # here, because a thread that waits for input ignores Ctrl-C
                    ahead.append(Future())
                    ahead[-1].set_result(self._load(path))
                else:
                    ahead.append(pool.submit(self._load, path))
                if len(ahead) > READ_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _load(self, path: str | Path) -> tuple[_File, np.ndarray]:
        file = _File(str(path))
        try:
            waveform = load_audio(path, self.sample_rate)
        except AsrError as error:
            file.error = error
            return file, np.zeros(0, np.float32)
        file.duration = len(waveform) / self.sample_rate
        return file, waveform

    def _pieces(self, file: _File, waveform: np.ndarray) -> list[_Piece]:
        """Cut a recording; pieces without any sound are left out."""
        rate = self.sample_rate
        pieces = [
            _Piece(file, waveform[start:end], start / rate, end / rate)
            for start, end in split_at_pauses(waveform, rate)
        ]
        pieces = [piece for piece in pieces if _may_hold_words(piece)]
        file.pending = len(pieces)
        return pieces

    def _transcribe_pieces(
        self,
        pieces: list[_Piece],
        batch_seconds: float,
        on_progress: Callable[[float], None] | None,
    ) -> None:
        for batch in _batches(pieces, batch_seconds):
            for piece, words in zip(batch, self._words(batch, batch_seconds), strict=True):
                piece.file.pending -= 1
                if words:
                    text = " ".join(word.word for word in words)
                    piece.file.segments.append(Segment(piece.start, piece.end, text, words))
            if on_progress:
                on_progress(sum(piece.seconds for piece in batch))

    def log_probs_of(
        self,
        paths: Iterable[str | Path],
        batch_seconds: float = BATCH_SECONDS,
        on_progress: Callable[[float], None] | None = None,
    ) -> list[NDArray[np.float32] | AsrError]:
        """Return the (frames, vocab) log-probabilities of whole recordings, not cut at pauses.

        Args:
            paths: the recordings.
            batch_seconds: most audio in a batch, padding included.
            on_progress: called with the seconds of audio done, after each batch.

        Returns:
            One array per path, or the error that kept the recording from being read.

        Raises:
            ConfigError: ``batch_seconds`` is too much for the GPU's memory.
        """
        results: list[NDArray[np.float32] | AsrError] = []
        places: dict[int, int] = {}
        pieces = []
        for file, waveform in self._read(paths):
            if file.error:
                results.append(file.error)
                continue
            pieces.append(_Piece(file, waveform, 0.0, file.duration))
            places[id(pieces[-1])] = len(results)
            results.append(np.zeros((0, len(self.model.tokenizer)), np.float32))
        for batch in _batches(pieces, batch_seconds):
            log_probs, frames = self._log_probs(batch, batch_seconds)
            for piece, row, count in zip(batch, log_probs, frames, strict=True):
                results[places[id(piece)]] = row[:count].numpy().copy()
            if on_progress:
                on_progress(sum(piece.seconds for piece in batch))
        return results

    @torch.inference_mode()
    def _log_probs(self, batch: list[_Piece], batch_seconds: float) -> tuple[Tensor, Tensor]:
        waveforms = [torch.from_numpy(piece.waveform) for piece in batch]
        padded = pad_sequence(waveforms, batch_first=True).to(self.device)
        lengths = torch.tensor([len(waveform) for waveform in waveforms], device=self.device)
        try:
            log_probs, frames = self.model.log_probs_of(padded, lengths)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"batches of {batch_seconds:g} s are too much for the memory of {self.device}; "
                "lower --batch-seconds"
            ) from error
        # Few values a frame: cheaper to fetch at once than to ask for one by one.
        return log_probs.cpu(), frames.cpu()

    def _words(self, batch: list[_Piece], batch_seconds: float) -> list[tuple[Word, ...]]:
        log_probs, frames = self._log_probs(batch, batch_seconds)
        n_best = self.decoder.decode(log_probs, frames)
        return [
            self._align(piece, hypotheses[0], row[:count])
            for piece, hypotheses, row, count in zip(batch, n_best, log_probs, frames, strict=True)
        ]

    def _align(self, piece: _Piece, hypothesis: Hypothesis, log_probs: Tensor) -> tuple[Word, ...]:
        """Return the words of a piece with their times in the whole recording."""
        words = align_words(hypothesis, log_probs, self.model.tokenizer, self.model.frame_seconds)
        return tuple(
            # The last frame may reach beyond the audio.
            replace(
                word,
                start=piece.start + word.start,
                end=min(piece.start + word.end, piece.end),
                confidence=self.calibration(word.confidence),
            )
            for word in words
        )


def choose_device(name: str | None = None) -> torch.device:
    """Return the device of that name, or the best there is.

    Raises:
        ConfigError: there is no such device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"no device {name!r} here; use cpu, or leave the choice out") from error
    return device


def _may_hold_words(piece: _Piece) -> bool:
    return piece.seconds >= SHORTEST_SECONDS and np.abs(piece.waveform).max() > SILENCE_PEAK


def _batches(pieces: list[_Piece], batch_seconds: float) -> Iterator[list[_Piece]]:
    """Yield batches of similar length, longest first, each within ``batch_seconds``."""
    batch: list[_Piece] = []
    for piece in sorted(pieces, key=lambda piece: -piece.seconds):
        if batch and batch[0].seconds * (len(batch) + 1) > batch_seconds:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def _finished(files: deque[_File]) -> Iterator[Transcript | AsrError]:
    while files and not files[0].pending:
        yield files.popleft().result()
