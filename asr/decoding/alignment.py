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


class _Token(NamedTuple):
    is_space: bool
    start: int
    end: int
    log_prob: float


def align_words(
    hypothesis: Hypothesis, log_probs: Tensor, tokenizer: CharTokenizer, frame_seconds: float
) -> list[Word]:
    """Return the words of a hypothesis with their times and confidences.

    A character or phone reaches from the frame in which it starts over the frames in which it
    stays the best token; a word reaches from its first token to the end of its last. A word's
    confidence is the geometric mean of its tokens' posteriors at their peaks, so that long words
    are not doubted for their length.

    Args:
        hypothesis: tokens and the frames in which they start.
        log_probs: (frames, vocab) natural log, the utterance's valid frames alone.
        tokenizer: of the output; words are separated by its space.
        frame_seconds: distance of two frames.

    Raises:
        ValueError: a timestep lies outside the frames.
    """
    if hypothesis.timesteps and hypothesis.timesteps[-1] >= len(log_probs):
        raise ValueError(
            f"timestep {hypothesis.timesteps[-1]} is outside the {len(log_probs)} frames"
        )
    words: list[list[_Token]] = [[]]
    for token in _tokens(hypothesis, log_probs, tokenizer):
        if token.is_space:
            words.append([])
        else:
            words[-1].append(token)
    texts = hypothesis.text.split()
    return [
        _word(text, tokens, frame_seconds)
        for text, tokens in zip(texts, filter(None, words), strict=True)
    ]


def _tokens(
    hypothesis: Hypothesis, log_probs: Tensor, tokenizer: CharTokenizer
) -> Iterator[_Token]:
    path = log_probs.argmax(dim=1).tolist()
    values = log_probs.numpy(force=True)  # many single look-ups follow; a tensor's are slow
    limits = (*hypothesis.timesteps, len(path))[1:]
    for token, start, limit in zip(hypothesis.tokens, hypothesis.timesteps, limits, strict=True):
        end = start + 1
        while end < limit and path[end] == token:
            end += 1
        peak = float(values[start:end, token].max())
        yield _Token(tokenizer.decode([token]) == " ", start, end, peak)


def _word(text: str, tokens: list[_Token], frame_seconds: float) -> Word:
    mean = sum(token.log_prob for token in tokens) / len(tokens)
    return Word(
        word=text,
        start=tokens[0].start * frame_seconds,
        end=tokens[-1].end * frame_seconds,
        confidence=min(1.0, math.exp(mean)),
    )
