"""Times and confidences of the words of a hypothesis, from the CTC posteriors."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from asr.decoding.hypothesis import Hypothesis
from asr.text import CharTokenizer


@dataclass(frozen=True, slots=True)
class Word:
    """A recognised word.

    Attributes:
        word: its text.
        start: when it begins, seconds.
        end: when it ends, seconds; a CTC model places its peaks, so a word's edges are good to
            about a tenth of a second.
        confidence: 0..1, see :func:`align_words`.
    """

    word: str
    start: float
    end: float
    confidence: float


class _Character(NamedTuple):
    text: str
    start: int
    end: int
    log_prob: float


def align_words(
    hypothesis: Hypothesis, log_probs: Tensor, tokenizer: CharTokenizer, frame_seconds: float
) -> list[Word]:
    """Return the words of a hypothesis with their times and confidences.

    A character reaches from the frame in which it starts over the frames in which it stays the
    best token; a word reaches from its first character to the end of its last. A word's
    confidence is the geometric mean of its characters' posteriors at their peaks, so that long
    words are not doubted for their length.

    Args:
        hypothesis: tokens and the frames in which they start.
        log_probs: (frames, vocab) natural log, the utterance's valid frames alone.
        tokenizer: gives the characters; words are separated by its space.
        frame_seconds: distance of two frames.

    Raises:
        ValueError: a timestep lies outside the frames.
    """
    if hypothesis.timesteps and hypothesis.timesteps[-1] >= len(log_probs):
        raise ValueError(
            f"timestep {hypothesis.timesteps[-1]} is outside the {len(log_probs)} frames"
        )
    words: list[list[_Character]] = [[]]
    for character in _characters(hypothesis, log_probs, tokenizer):
        if character.text == " ":
            words.append([])
        else:
            words[-1].append(character)
    return [_word(characters, frame_seconds) for characters in words if characters]


def _characters(
    hypothesis: Hypothesis, log_probs: Tensor, tokenizer: CharTokenizer
) -> Iterator[_Character]:
    path = log_probs.argmax(dim=1).tolist()
    values = log_probs.numpy(force=True)  # many single look-ups follow; a tensor's are slow
    limits = (*hypothesis.timesteps, len(path))[1:]
    for token, start, limit in zip(hypothesis.tokens, hypothesis.timesteps, limits, strict=True):
        end = start + 1
        while end < limit and path[end] == token:
            end += 1
        peak = float(values[start:end, token].max())
        yield _Character(tokenizer.decode([token]), start, end, peak)


def _word(characters: list[_Character], frame_seconds: float) -> Word:
    mean = sum(character.log_prob for character in characters) / len(characters)
    return Word(
        word="".join(character.text for character in characters),
        start=characters[0].start * frame_seconds,
        end=characters[-1].end * frame_seconds,
        confidence=min(1.0, math.exp(mean)),
    )
