"""What a model makes of a part of a recording, step by step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from asr.audio import OnDamage, iter_audio, warn_of_damage
from asr.decoding.alignment import Word, align_words
from asr.errors import ConfigError
from asr.features import LogMel
from asr.transcriber import Transcriber

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Excerpt:
    """A part of a recording.

    Attributes:
        waveform: (time,) float32.
        sample_rate: Hz.
        start: where in the recording it begins, seconds.
        is_cut: whether the recording goes on behind it.
    """

    waveform: Array
    sample_rate: int
    start: float
    is_cut: bool

    @property
    def end(self) -> float:
        """Where in the recording it ends, seconds."""
        return self.start + len(self.waveform) / self.sample_rate


@dataclass(frozen=True)
class Inspection:
    """All steps from a waveform to words.

    Attributes:
        excerpt: the sound.
        log_mel: (frames, n_mels) natural logarithm of mel-band power.
        mel_frame_seconds: distance of two frames of ``log_mel``.
        mel_limits: lowest and highest frequency of the mel bands, Hz.
        posteriors: (frames_out, vocab) probabilities, blank first.
        frame_seconds: distance of two frames of ``posteriors``.
        symbols: character or phone of each token after the blank.
        words: what was recognised; times in the whole recording.
    """

    excerpt: Excerpt
    log_mel: Array
    mel_frame_seconds: float
    mel_limits: tuple[float, float]
    posteriors: Array
    frame_seconds: float
    symbols: Sequence[str]
    words: tuple[Word, ...]


def read_excerpt(
    path: str | Path,
    sample_rate: int,
    start: float,
    end: float,
    on_damage: OnDamage = warn_of_damage,
) -> Excerpt:
    """Read a part of a recording; of a long one nothing else is kept in memory.

    Args:
        path: the recording, ``-`` for standard input.
        sample_rate: rate of the waveform, Hz.
        start: where to begin, seconds.
        end: where to end, seconds, or earlier if the recording does.
        on_damage: called with what is wrong with a recording that can be read in part.

    Raises:
        AudioError: the recording cannot be read.
        ConfigError: it ends before ``start``.
    """
    first, last = round(start * sample_rate), round(end * sample_rate)
    position, parts = 0, []
    for block in iter_audio(path, sample_rate, on_damage=on_damage):
        parts.append(block[max(first - position, 0) : max(last - position, 0)])
        position += len(block)
        if position > last:
            break
    waveform = np.concatenate(parts)
    if first >= last:
        raise ConfigError(f"{start:g} to {end:g} s is no part of a recording; choose a longer one")
    if not len(waveform):
        raise ConfigError(
            f"{path}: ends at {position / sample_rate:.2f} s; choose a part that starts before"
        )
    return Excerpt(waveform, sample_rate, first / sample_rate, is_cut=position > last)


@torch.inference_mode()
def inspect_excerpt(excerpt: Excerpt, transcriber: Transcriber) -> Inspection:
    """Transcribe an excerpt, on the CPU, and keep what comes up on the way."""
    model = transcriber.model.cpu()
    config = model.features_config
    waveform = torch.from_numpy(excerpt.waveform)[None]
    log_probs, lengths = model.log_probs_of(waveform, torch.tensor([waveform.shape[1]]))
    [[best, *_]] = transcriber.decoder.decode(log_probs, lengths)
    words = align_words(best, log_probs[0], model.tokenizer, model.frame_seconds)
    start, end = excerpt.start, excerpt.end
    return Inspection(
        excerpt=excerpt,
        log_mel=LogMel(config)(waveform)[0].numpy(),
        mel_frame_seconds=config.frame_seconds,
        mel_limits=(config.f_min, config.f_max or config.sample_rate / 2),
        posteriors=log_probs[0].exp().numpy(),
        frame_seconds=model.frame_seconds,
        symbols=model.tokenizer.symbols,
        words=tuple(
            replace(
                word,
                start=start + word.start,
                end=min(start + word.end, end),  # the last frame may reach beyond the audio
                confidence=transcriber.calibration(word.confidence),
            )
            for word in words
        ),
    )
