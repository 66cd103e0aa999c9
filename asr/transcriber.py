"""From recordings to text with times: audio → pieces → batches → words."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.audio import load_audio
from asr.bundle import load_bundle, packaged_model
from asr.decoding.alignment import Word, align_words
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.hypothesis import Hypothesis
from asr.errors import AsrError, ConfigError
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
    """

    def __init__(self, model: CtcModel, device: torch.device) -> None:
        self.model = model.to(device).eval()
        self.device = device
        self.decoder = GreedyDecoder(model.tokenizer)
        self.sample_rate = model.features_config.sample_rate

    @classmethod
    def load(cls, model: str | Path | None = None, device: str | None = None) -> "Transcriber":
        """Load a model bundle.

        Args:
            model: path of the bundle; the packaged model if ``None``.
            device: ``cpu``, ``cuda``, ``cuda:1`` …; a GPU if there is one, if ``None``.

        Raises:
            BundleError: the model cannot be loaded.
            ConfigError: the device does not exist.
        """
        chosen = choose_device(device)
        return cls(load_bundle(model or packaged_model()).model, chosen)

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

    @torch.inference_mode()
    def _words(self, batch: list[_Piece], batch_seconds: float) -> list[tuple[Word, ...]]:
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
        log_probs, frames = log_probs.cpu(), frames.cpu()
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
                word, start=piece.start + word.start, end=min(piece.start + word.end, piece.end)
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
