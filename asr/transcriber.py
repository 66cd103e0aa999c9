"""From recordings to text with times: audio → pieces → batches → words."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.archive import Archive, packaged_model
from asr.bundle import Bundle, load_bundle
from asr.decoding.alignment import Word, align_words
from asr.decoding.build import build_decoder
from asr.decoding.calibration import Calibration
from asr.decoding.config import DecoderConfig
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.hypothesis import Decoder, Hypothesis
from asr.decoding.spelling import SoundSpelling
from asr.decoding.stitching import stitch
from asr.errors import AsrError, AsrWarning, ConfigError
from asr.lm.character import CharacterModel, load_character_model, parse_character_model
from asr.lm.lexicon import read_lexicon
from asr.lm.word_model import WordModel
from asr.memory import paused_collection
from asr.models.ctc import CtcModel
from asr.pronunciation import Pronunciations, parse_pronunciations
from asr.recordings import Recording, read_ahead
from asr.segmentation import Piece
from asr.text import normalise

BATCH_SECONDS = 60.0  # more is hardly faster on a CPU, but takes memory
MOST_BATCHES = 8  # sorted by length together
SILENCE_PEAK = 1e-4  # -80 dB: nothing but the noise of a converter
SHORTEST_SECONDS = 0.1  # no word is shorter
CONFIDENCE_SETTINGS = {"confidence_scale", "confidence_offset"}
WORD_SETTINGS = {"lm_weight", "word_score", "unknown_score", "hotword_score", "prior_weight"}
CHARACTER_SETTINGS = {"char_lm_weight", "char_score"}
UNUSED_SETTINGS = {  # of which whoever gives them expects something
    "greedy": WORD_SETTINGS | CHARACTER_SETTINGS | {"beam_width"},
    "fusion": WORD_SETTINGS,
    "beam": set[str](),
}


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech; ``start`` and ``end`` in seconds."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...]


OnProgress = Callable[[float], None]
OnSegment = Callable[[int, Segment], None]


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in a recording.

    Attributes:
        path: the recording, as it was named.
        duration: its length in seconds.
        text: the whole text.
        segments: its stretches in order, those without words left out.
        warning: why a part of the recording could not be read; ``None`` if all could.
    """

    path: str
    duration: float
    text: str
    segments: tuple[Segment, ...]
    warning: str | None = None

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all segments."""
        return tuple(word for segment in self.segments for word in segment.words)

    @property
    def confidence(self) -> float:
        """The share of words that is expected to be right, 0..1; 1 if there are none."""
        words = self.words
        return sum(word.confidence for word in words) / len(words) if words else 1.0


@dataclass(eq=False)
class _Task:
    """A piece of a recording on its way to words."""

    piece: Piece
    file: "_File"
    seconds: float  # of sound
    progress: float  # seconds of the recording since the piece before
    words: tuple[Word, ...] | None = None


@dataclass(eq=False)
class _File:
    """A recording on its way."""

    number: int
    recording: Recording
    sample_rate: int
    reached: int = 0  # samples handed out in pieces
    tasks: deque[_Task] = field(default_factory=deque)  # those not yet in segments, in order
    segments: list[Segment] = field(default_factory=list)

    def add(self, piece: Piece) -> _Task:
        rate = self.sample_rate
        progress = (piece.end - self.reached) / rate
        self.reached = piece.end
        self.tasks.append(_Task(piece, self, len(piece.waveform) / rate, progress))
        return self.tasks[-1]

    def settle(self) -> Iterator[Segment]:
        """Make segments of the tasks that are done, as far as none before them is missing."""
        while self.tasks and (words := self.tasks[0].words) is not None:
            task = self.tasks[0]
            following = self.tasks[1] if len(self.tasks) > 1 else None
            # Where reading broke off, no next piece will come.
            if task.piece.overlaps_next and (following or not self.recording.error):
                if following is None or following.words is None:
                    return
                cut = task.piece.end / self.sample_rate
                words, following.words = stitch(words, following.words, cut)
            self.tasks.popleft()
            if words:
                start, end = (at / self.sample_rate for at in (task.piece.begin, task.piece.end))
                # Speech that was cut without a pause may have a word on both sides.
                start, end = min(start, words[0].start), max(end, words[-1].end)
                if following and following.words:
                    end = min(end, following.words[0].start)
                if self.segments:
                    start = max(start, self.segments[-1].end)
                self.segments.append(
                    Segment(start, end, " ".join(word.word for word in words), words)
                )
                yield self.segments[-1]

    @property
    def is_done(self) -> bool:
        return self.recording.is_read and not self.tasks

    def result(self) -> Transcript | AsrError:
        recording = self.recording
        if recording.error:
            return recording.error
        text = " ".join(segment.text for segment in self.segments)
        segments = tuple(self.segments)
        return Transcript(recording.path, recording.duration, text, segments, recording.warning)


class Transcriber:
    """Turns recordings into text with one model.

    Args:
        model: the acoustic model.
        device: where it runs.
        decoder: finds the text in its log-probabilities; greedy if ``None``.
        calibration: of the words' confidences.
        config: the decoder's settings, for whoever asks.
    """

    def __init__(
        self,
        model: CtcModel,
        device: torch.device,
        decoder: Decoder | None = None,
        calibration: Calibration = Calibration(),  # noqa: B008 (frozen)
        config: DecoderConfig = DecoderConfig(),  # noqa: B008 (frozen)
    ) -> None:
        # oneDNN keeps memory for 1024 shapes of batches, and hardly two batches are alike.
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "1")
        self.model = model.to(device).eval()
        self.device = device
        self.decoder = decoder or GreedyDecoder(model.tokenizer)
        self.calibration = calibration
        self.config = config
        self.sample_rate = model.features_config.sample_rate

    @classmethod
    @paused_collection()
    def load(
        cls,
        model: str | Path | Archive | None = None,
        device: str | None = None,
        *,
        language_model: str | Path | None = None,
        character_model: str | Path | None = None,
        lexicon: str | Path | None = None,
        hotwords: Sequence[str] = (),
        **settings: Any,
    ) -> "Transcriber":
        """Load a model bundle.

        Args:
            model: path of the bundle, or its archive; the packaged one if ``None``.
            device: ``cpu``, ``cuda``, ``cuda:1`` …; a GPU if there is one, if ``None``.
            language_model: ARPA file or KenLM's binary file to decode with; that of the bundle if
                ``None``.
            character_model: file of a character model, or another bundle with one, that rescores
                what the beam finds, or searches in fusion; that of the bundle if ``None``.
            lexicon: file of the words to use, one a line; all of the language model if ``None``.
            hotwords: words and phrases to favour.
            settings: of :class:`~asr.decoding.config.DecoderConfig`, such as ``method="greedy"``
                or ``beam_width=50``; those of the bundle where not given, but whoever gives a
                language model, a lexicon or hotwords wants a beam, and whoever gives a character
                model at least not greedy decoding.

        Raises:
            BundleError: the model cannot be loaded.
            ConfigError: the device does not exist; decoder settings contradict each other.
            LanguageModelError: a language model or lexicon cannot be used.
            PronunciationError: the bundle's pronunciations are damaged.
            TextError: they have a phone that the model lacks.
        """
        chosen = choose_device(device)
        bundle = load_bundle(model or packaged_model())
        if language_model or lexicon or hotwords:
            settings.setdefault("method", "beam")
        elif character_model and bundle.decoder.method == "greedy":
            settings.setdefault("method", "beam" if bundle.language_model else "fusion")
        # Whoever gives a character model wants it heard.
        if character_model and not bundle.decoder.char_lm_weight:
            settings.setdefault("char_lm_weight", DecoderConfig.char_lm_weight)
            settings.setdefault("char_score", DecoderConfig.char_score)
        config = replace(bundle.decoder, **settings)
        if config.method == "greedy" and (language_model or character_model or lexicon or hotwords):
            raise ConfigError("greedy decoding takes no language model, lexicon or hotwords")
        if isinstance(hotwords, str):
            raise ConfigError(f"hotwords are a list of words, such as [{hotwords!r}]")
        if unused := settings.keys() & UNUSED_SETTINGS[config.method]:
            has_none = f"{config.method} decoding has no {min(unused)}"
            raise ConfigError(f"{has_none}; decode with a beam, or leave it out")
        if config.method == "fusion" and (language_model or lexicon or hotwords):
            raise ConfigError("fusion takes no n-grams, lexicon or hotwords; use the beam")
        tokenizer = bundle.model.tokenizer
        words = read_lexicon(lexicon, tokenizer.alphabet) if lexicon else None
        characters = None
        if character_model:
            characters = load_character_model(character_model)
        elif bundle.character_model and (
            config.method == "fusion" or (config.method == "beam" and config.char_lm_weight)
        ):
            characters = parse_character_model(bundle.character_model, bundle.path)
        file: AbstractContextManager[str | Path | None] = nullcontext(language_model)
        if config.method == "beam" and not language_model:
            file = bundle.language_model_file()
        with file as path:
            ngrams = WordModel(path, tokenizer.alphabet) if path else None
            spelling = None
            if ngrams:
                spoken = [*(words or ngrams.words), *normalise(" ".join(hotwords)).split()]
                spelling = sound_spelling(bundle, spoken)
            if config.method == "beam":
                changed = {k: v for k, v in settings.items() if v != getattr(bundle.decoder, k)}
                _check_use(changed, ngrams, characters, hotwords, spelling)
            decoder = build_decoder(
                tokenizer,
                config,
                ngrams,
                character_model=characters,
                words=words,
                hotwords=hotwords,
                spelling=spelling,
            )
        calibration = Calibration(config.confidence_scale, config.confidence_offset)
        if config.method != bundle.decoder.method and not settings.keys() & CONFIDENCE_SETTINGS:
            calibration = Calibration()  # the stored one is of words that the other method finds
        acoustic = bundle.model.in_phones() if spelling else bundle.model
        return cls(acoustic, chosen, decoder, calibration, config)

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
        on_progress: OnProgress | None = None,
        on_segment: OnSegment | None = None,
    ) -> Iterator[Transcript | AsrError]:
        """Transcribe recordings together, which is faster than one by one.

        Long recordings are read and cut bit by bit, so that hours need no more memory than
        minutes, and pieces of similar length from all recordings share a batch. What is in a
        batch never changes a result.

        Args:
            paths: the recordings.
            batch_seconds: most audio in a batch, padding included; a single piece may exceed it.
            on_progress: called with the seconds of audio done, after each batch, and in silence.
            on_segment: called with each segment as soon as it and those before it in the same
                recording are ready, and the place of its path among ``paths``.

        Yields:
            One result per path in the order given, each as soon as it and those before it are
            ready: a transcript, or the error that kept the recording from being read.

        Raises:
            ConfigError: ``batch_seconds`` is not above 0 or too much for the GPU's memory.
        """
        if not batch_seconds > 0:
            raise ConfigError(f"batch_seconds {batch_seconds} is not above 0")
        files: deque[_File] = deque()
        file: _File | None = None
        window: list[_Task] = []
        seconds, enough = 0.0, batch_seconds  # grows, so that the first result comes soon
        with closing(read_ahead(paths, self.sample_rate)) as recordings:
            for recording, pieces in recordings:
                if file is None or file.recording is not recording:
                    file = _File(file.number + 1 if file else 0, recording, self.sample_rate)
                    files.append(file)
                for task in [file.add(piece) for piece in pieces]:
                    if not _may_hold_words(task):
                        task.words = ()
                        if on_progress:
                            on_progress(task.progress)
                        continue
                    window.append(task)
                    seconds += task.seconds
                    if seconds >= enough:
                        self._transcribe_tasks(window, batch_seconds, on_progress, on_segment)
                        window, seconds = [], 0.0
                        enough = min(2 * enough, MOST_BATCHES * batch_seconds)
                        yield from _finished(files)
                _settle(file, on_segment)
                yield from _finished(files)
                if on_progress and not pieces:
                    on_progress(0.0)  # a long silence has no batches
        self._transcribe_tasks(window, batch_seconds, on_progress, on_segment)
        yield from _finished(files)

    def _transcribe_tasks(
        self,
        tasks: list[_Task],
        batch_seconds: float,
        on_progress: OnProgress | None,
        on_segment: OnSegment | None,
    ) -> None:
        for batch in _batches(tasks, batch_seconds):
            for task, words in zip(batch, self._words(batch, batch_seconds), strict=True):
                task.words = words
            for file in {id(task.file): task.file for task in batch}.values():
                _settle(file, on_segment)
            if on_progress:
                on_progress(sum(task.progress for task in batch))

    def log_probs_of(
        self,
        paths: Iterable[str | Path],
        batch_seconds: float = BATCH_SECONDS,
        on_progress: OnProgress | None = None,
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
        window: list[_Task] = []

        def compute() -> None:
            for batch in _batches(window, batch_seconds):
                log_probs, frames = self._log_probs(batch, batch_seconds)
                for task, row, count in zip(batch, log_probs, frames, strict=True):
                    results[task.file.number] = row[:count].numpy().copy()
                if on_progress:
                    on_progress(sum(task.seconds for task in batch))
            window.clear()

        with closing(read_ahead(paths, self.sample_rate, whole=True)) as recordings:
            for recording, pieces in recordings:
                if recording.is_read:
                    file = _File(len(results), recording, self.sample_rate)
                    window += [file.add(piece) for piece in pieces]
                    empty = np.zeros((0, len(self.model.tokenizer)), np.float32)
                    results.append(recording.error or empty)
                if sum(task.seconds for task in window) >= MOST_BATCHES * batch_seconds:
                    compute()
        compute()
        return results

    @torch.inference_mode()
    def _log_probs(self, batch: list[_Task], batch_seconds: float) -> tuple[Tensor, Tensor]:
        waveforms = [torch.from_numpy(task.piece.waveform) for task in batch]
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

    def _words(self, batch: list[_Task], batch_seconds: float) -> list[tuple[Word, ...]]:
        log_probs, frames = self._log_probs(batch, batch_seconds)
        n_best = self.decoder.decode(log_probs, frames)
        return [
            self._align(task.piece, hypotheses[0], row[:count])
            for task, hypotheses, row, count in zip(batch, n_best, log_probs, frames, strict=True)
        ]

    def _align(self, piece: Piece, hypothesis: Hypothesis, log_probs: Tensor) -> tuple[Word, ...]:
        """Return the words of a piece with their times in the whole recording."""
        words = align_words(hypothesis, log_probs, self.model.tokenizer, self.model.frame_seconds)
        start = piece.start / self.sample_rate
        end = (piece.start + len(piece.waveform)) / self.sample_rate
        return tuple(
            # The last frame may reach beyond the audio.
            replace(
                word,
                start=start + word.start,
                end=min(start + word.end, end),
                confidence=self.calibration(word.confidence),
            )
            for word in words
        )


def _check_use(
    settings: Mapping[str, Any],
    ngrams: WordModel | None,
    characters: CharacterModel | None,
    hotwords: Sequence[str],
    spelling: SoundSpelling | None,
) -> None:
    """Refuse settings that change nothing in a search with the beam."""
    useless: dict[str, str] = {}
    if spelling:
        useless["unknown_score"] = "that searches by sound"
    if not hotwords:
        useless["hotword_score"] = "without hotwords"
    if not ngrams:
        useless |= dict.fromkeys(WORD_SETTINGS, "without a language model")
    if not characters and settings.get("char_lm_weight") != 0:  # which leaves it out
        useless |= dict.fromkeys(CHARACTER_SETTINGS, "without a character model")
    if found := useless.keys() & settings.keys():
        name = min(found)
        raise ConfigError(f"a beam {useless[name]} has no {name}; leave it out")


def sound_spelling(bundle: Bundle, words: Iterable[str]) -> SoundSpelling | None:
    """Return how a model searches these words by their sound, or ``None`` if it cannot.

    Raises:
        PronunciationError: its dictionary is damaged.
    """
    phones = bundle.model.phone_tokenizer
    if bundle.pronunciations is None or phones is None:
        return None
    dictionary = parse_pronunciations(bundle.pronunciations, bundle.path)
    known = dictionary.words
    guessed = dictionary.covering(word for word in words if word not in known)  # hardly any
    return SoundSpelling(phones, Pronunciations({**known, **guessed.words}, dictionary.phones))


def choose_device(name: str | None = None) -> torch.device:
    """Return the device of that name, or the best there is.

    Raises:
        ConfigError: there is no such device.
    """
    if name is None and torch.cuda.is_available():
        try:
            torch.zeros(1, device="cuda")
            name = "cuda"
        except RuntimeError as error:  # too old for this build, or in somebody else's use
            reason = str(error).splitlines()[0]
            message = f"the GPU cannot be used ({reason}); on the CPU then"
            warnings.warn(message, AsrWarning, stacklevel=2)
    try:
        device = torch.device(name or "cpu")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"no device {name!r} here; use cpu, or leave the choice out") from error
    return device


def _may_hold_words(task: _Task) -> bool:
    return task.seconds >= SHORTEST_SECONDS and np.abs(task.piece.waveform).max() > SILENCE_PEAK


def _batches(tasks: list[_Task], batch_seconds: float) -> Iterator[list[_Task]]:
    """Yield batches of similar length, longest first, each within ``batch_seconds``."""
    batch: list[_Task] = []
    for task in sorted(tasks, key=lambda task: -task.seconds):
        if batch and batch[0].seconds * (len(batch) + 1) > batch_seconds:
            yield batch
            batch = []
        batch.append(task)
    if batch:
        yield batch


def _settle(file: _File, on_segment: OnSegment | None) -> None:
    for segment in file.settle():
        if on_segment:
            on_segment(file.number, segment)


def _finished(files: deque[_File]) -> Iterator[Transcript | AsrError]:
    while files and files[0].is_done:
        yield files.popleft().result()
