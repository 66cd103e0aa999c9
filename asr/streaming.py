"""Text while somebody speaks.

The encoder reads speech forwards and backwards, so a stream goes through it in windows: some of
what was heard before, a chunk, and a look-ahead. Only the chunk's log-probabilities are kept;
partial texts come from these, and are not rescored. Once the speaker pauses, the whole stretch of
speech is recognised anew, with all of its context, as a recording would be.

Reference: Zhang et al. 2016, "Highway Long Short-Term Memory RNNs for Distant Speech
Recognition" (latency-controlled bidirectional LSTMs).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import soxr
import torch
from torch import Tensor

from asr.decoding.alignment import align_words
from asr.decoding.rescoring import RescoringDecoder
from asr.errors import ConfigError
from asr.features import SMALLEST_VARIANCE
from asr.models.ctc import CtcModel
from asr.segmentation import MAX_SECONDS
from asr.stretches import Stretch, Stretches
from asr.transcriber import Transcriber

PRIOR_SECONDS = 1.0  # what was said before a pause weighs as much in the normalisation

Waveform = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Chunking:
    """How a stream is cut for an encoder that reads in both directions; all in seconds.

    Attributes:
        chunk: that each window adds.
        look_ahead: sound heard beyond the chunk before it is encoded.
        left_context: sound before the chunk that is heard again.
    """

    chunk: float = 0.64
    look_ahead: float = 0.32
    left_context: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.chunk <= MAX_SECONDS:
            raise ConfigError(f"chunk {self.chunk} is not above 0 and at most {MAX_SECONDS:g} s")
        for name in ("look_ahead", "left_context"):
            if not 0 <= getattr(self, name) <= MAX_SECONDS:
                raise ConfigError(f"{name} {getattr(self, name)} is not in 0..{MAX_SECONDS:g} s")

    @property
    def latency(self) -> float:
        """Seconds from a sound to its log-probabilities on average, without computing time."""
        return self.chunk / 2 + self.look_ahead


@dataclass(frozen=True)
class Statistics:
    """Of the features heard so far, (n_features,) float64 each.

    Attributes:
        mean: of each feature.
        square: mean of its square.
    """

    mean: Tensor
    square: Tensor


class ChunkedEncoder:
    """Log-probabilities of a waveform that still grows.

    They depend on the waveform and the chunking alone, provided that :meth:`advance` is called
    as soon as ``wanted`` samples are there; whoever comes later gets several chunks at once. One
    chunk that holds all gives what the model gives offline.

    Each window is normalised with the statistics of all that was heard up to its end. What the
    same speaker said before makes better ones of the first seconds.

    Args:
        model: the acoustic model.
        chunking: how the waveform is cut.
        before: statistics of what was heard before; they count as ``PRIOR_SECONDS`` of sound.
    """

    def __init__(
        self, model: CtcModel, chunking: Chunking, before: Statistics | None = None
    ) -> None:
        self.model = model
        self._before = before
        self._device = next(model.parameters()).device
        self._chunk = max(1, round(chunking.chunk / model.frame_seconds))
        self._look_ahead = math.ceil(chunking.look_ahead / model.frame_seconds)
        self._left = math.ceil(chunking.left_context / model.frame_seconds)
        self._features = torch.zeros(0, model.features_config.n_features, device=self._device)
        self._sum = torch.zeros(1, dtype=torch.float64, device=self._device)
        self._squares = self._sum
        self._rows = [torch.zeros(0, len(model.tokenizer))]
        self._done = 0  # output frames

    @property
    def wanted(self) -> int:
        """Samples that the next chunk needs."""
        config = self.model.features_config
        frames = self._frames(self._done + self._chunk + self._look_ahead)
        return (frames - 1 + self._beyond) * config.hop_length + config.n_fft // 2

    @property
    def log_probs(self) -> Tensor:
        """(frames, vocab) of the chunks that are done, on the CPU."""
        self._rows = [torch.cat(self._rows)]
        return self._rows[0]

    @property
    def statistics(self) -> Statistics | None:
        """Those of what was heard, and of what was before; ``None`` if it was nothing."""
        count = len(self._features)
        if not count:
            return self._before
        if not self._before:
            return Statistics(self._sum / count, self._squares / count)
        prior = PRIOR_SECONDS / self.model.features_config.frame_seconds
        return Statistics(
            (self._sum + prior * self._before.mean) / (count + prior),
            (self._squares + prior * self._before.square) / (count + prior),
        )

    @torch.inference_mode()
    def advance(self, waveform: Waveform, *, is_last: bool = False) -> None:
        """Encode the chunks that are complete.

        Args:
            waveform: (time,) float32 from its beginning as far as it is known.
            is_last: whether nothing more will follow: what is left becomes the last chunk.
        """
        config = self.model.features_config
        if is_last:
            end = config.num_frames(len(waveform))
            done = self.model.encoder_config.output_length(end)
        else:
            known = (len(waveform) - config.n_fft // 2) // config.hop_length + 1 - self._beyond
            known = max(0, known) // self.model.encoder_config.subsampling
            chunks = (known - self._look_ahead - self._done) // self._chunk
            done = self._done + chunks * self._chunk
            end = self._frames(done + self._look_ahead)
        if done <= self._done:
            return
        self._hear(waveform, end)
        first = max(0, self._done - self._left)
        window = self._normalised(self._features[self._frames(first) : end])
        log_probs = self.model(window[None], torch.tensor([len(window)], device=self._device))[0]
        self._rows.append(log_probs[0, self._done - first : done - first].cpu())
        self._done = done

    def _frames(self, output_frames: int) -> int:
        return output_frames * self.model.encoder_config.subsampling

    @property
    def _beyond(self) -> int:
        """Feature frames that the derivatives of one look ahead, or back."""
        return 2 * self.model.features_config.deltas

    def _hear(self, waveform: Waveform, end: int) -> None:
        """Compute the features up to frame ``end`` that are still missing."""
        config = self.model.features_config
        begin = len(self._features)
        margin = math.ceil(config.n_fft / 2 / config.hop_length) + self._beyond
        first = max(0, begin - margin)
        rest = torch.from_numpy(waveform[first * config.hop_length :]).to(self._device)
        lengths = torch.tensor([len(rest)], device=self._device)
        features = self.model.feature_extractor(rest[None], lengths)[0][0]
        fresh = features[begin - first : end - first]
        self._features = torch.cat([self._features, fresh])
        self._sum = self._sum + fresh.sum(dim=0, dtype=torch.float64)
        self._squares = self._squares + fresh.double().square().sum(dim=0)

    def _normalised(self, window: Tensor) -> Tensor:
        statistics = self.statistics
        if self.model.features_config.normalisation != "utterance" or not statistics:
            lengths = torch.tensor([len(window)], device=self._device)
            return self.model.normalisation(window[None], lengths)[0]
        variance = (statistics.square - statistics.mean.square()).float()
        return (window - statistics.mean.float()) * (variance + SMALLEST_VARIANCE).rsqrt()


@dataclass(frozen=True, slots=True)
class Event:
    """What is said in a stream.

    Attributes:
        type: a partial text may still change, and the next one replaces it; a final one is done.
        text: of one stretch of speech.
        start: of its first word, seconds from the beginning of the stream.
        end: of its last word.
    """

    type: Literal["partial", "final"]
    text: str
    start: float
    end: float


class Stream:
    """Transcribes one speaker, or several who take turns, while the audio arrives.

    How the audio is chopped changes nothing. What is kept never exceeds one stretch of speech.

    Args:
        transcriber: the model, its decoder and its device.
        sample_rate: of the audio, Hz; that of the model if ``None``.
        chunking: how partial texts are made.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        sample_rate: int | None = None,
        chunking: Chunking = Chunking(),
    ) -> None:
        self.transcriber = transcriber
        self.chunking = chunking
        rate = transcriber.sample_rate
        self._resampler = None
        if sample_rate not in (None, rate):
            self._resampler = soxr.ResampleStream(sample_rate, rate, num_channels=1)
        self._stretches = Stretches(rate)
        self._encoder = ChunkedEncoder(transcriber.model, chunking)
        self._shown = ""  # the last partial text

    def feed(self, samples: Waveform, *, partials: bool = True) -> list[Event]:
        """Hear the next samples.

        Args:
            samples: (time,) float32 in -1..1, as many as there are.
            partials: whether partial texts are wanted, which take time to make.

        Returns:
            What is known by now and was not before.
        """
        if self._resampler:
            samples = self._resampler.resample_chunk(samples)
        return self._hear(samples, partials)

    def finish(self) -> list[Event]:
        """Return the final text of what was said since the last pause."""
        events = []
        if self._resampler:
            tail = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            events = self._hear(tail, partials=False)
        if self._stretches.speaking:
            events += self._final(self._stretches.current())
        return events

    def _hear(self, samples: Waveform, partials: bool) -> list[Event]:
        events = []
        step = self._stretches.step
        for at in range(0, len(samples), step):
            for stretch in self._stretches.feed(samples[at : at + step]):
                events += self._final(stretch)
            is_due = self._stretches.length >= self._encoder.wanted
            if partials and is_due and self._stretches.speaking:
                events += self._partial(self._stretches.current())
        return events

    def _partial(self, stretch: Stretch) -> list[Event]:
        self._encoder.advance(stretch.waveform)
        event = self._event("partial", stretch, self._encoder.log_probs)
        if event.text == self._shown:
            return []
        self._shown = event.text
        return [event]

    @torch.inference_mode()
    def _final(self, stretch: Stretch) -> list[Event]:
        self._encoder = ChunkedEncoder(
            self.transcriber.model, self.chunking, self._encoder.statistics
        )
        shown, self._shown = self._shown, ""
        waveform = torch.from_numpy(stretch.waveform).to(self.transcriber.device)
        lengths = torch.tensor([len(waveform)], device=self.transcriber.device)
        log_probs = self.transcriber.model.log_probs_of(waveform[None], lengths)[0][0].cpu()
        event = self._event("final", stretch, log_probs)
        # A noise that never was a word is nothing to speak of.
        return [event] if event.text or shown else []

    def _event(
        self, kind: Literal["partial", "final"], stretch: Stretch, log_probs: Tensor
    ) -> Event:
        decoder = self.transcriber.decoder
        if kind == "partial" and isinstance(decoder, RescoringDecoder):
            decoder = decoder.first  # all of the text so far is decoded again and again
        [[hypothesis, *_]] = decoder.decode(log_probs[None], torch.tensor([len(log_probs)]))
        model = self.transcriber.model
        words = align_words(hypothesis, log_probs, model.tokenizer, model.frame_seconds)
        seconds = len(stretch.waveform) / self.transcriber.sample_rate
        start, end = (words[0].start, words[-1].end) if words else (0.0, seconds)
        return Event(
            kind,
            " ".join(word.word for word in words),
            round(stretch.start + start, 3),
            round(stretch.start + min(end, seconds), 3),  # the last frame may reach beyond
        )
