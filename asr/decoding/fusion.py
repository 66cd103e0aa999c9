"""Prefix beam search in which a character language model foresees every character."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchaudio.functional import forced_align

from asr.decoding.hypothesis import Hypothesis
from asr.errors import ConfigError
from asr.lm.character import BOUNDARY, CharacterModel
from asr.text import CharTokenizer

LEAST_LOG_PROB = -12.0  # less likely characters extend no prefix in a frame


@dataclass(eq=False)
class _Prefix:
    """A text so far, and what the language model makes of it."""

    tokens: tuple[int, ...]
    lm_score: float  # natural log of the text so far
    state: Tensor  # of the language model, before the last character while that is unread
    foreseen: list[float] | None = None  # log-probability of each token that may follow
    children: dict[int, "_Prefix"] = field(default_factory=dict)


@dataclass
class _Mass:
    """Log-probability of a prefix's paths that end in a blank, and of those that do not."""

    blank: float = -math.inf
    solid: float = -math.inf

    @property
    def total(self) -> float:
        return _add(self.blank, self.solid)


class FusionDecoder:
    """Sums the paths of each prefix and weighs it with a character model's probability.

    All new prefixes of a frame go through the model in one batch. A space at the begin or after
    another one counts as silence.

    References: Graves and Jaitly 2014, "Towards End-to-End Speech Recognition with Recurrent
    Neural Networks" (the search); Gulcehre et al. 2015, "On Using Monolingual Corpora in Neural
    Machine Translation" (shallow fusion).

    Args:
        tokenizer: of the acoustic model.
        model: character model of the same alphabet.
        beam_width: prefixes that are kept from frame to frame.
        weight: of the model's natural-log probability.
        character_score: added for each character; above 0, as the model costs each some.
        n_best: most hypotheses per utterance.

    Raises:
        ConfigError: the alphabets differ.
    """

    def __init__(
        self,
        tokenizer: CharTokenizer,
        model: CharacterModel,
        *,
        beam_width: int = 32,
        weight: float = 0.5,
        character_score: float = 0.5,
        n_best: int = 1,
    ) -> None:
        check_same_alphabet(tokenizer, model)
        self.tokenizer = tokenizer
        self.model = model
        self.beam_width = beam_width
        self.weight = weight
        self.character_score = character_score
        self.n_best = n_best
        self.space = tokenizer.encode(" ")[0] if " " in tokenizer.alphabet else None

    def decode(self, log_probs: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Decode a batch; see :class:`~asr.decoding.hypothesis.Decoder`."""
        if int(lengths.max()) > log_probs.shape[1]:
            raise ValueError(f"length {int(lengths.max())} exceeds {log_probs.shape[1]} frames")
        rows = log_probs.float().cpu()
        return [
            self._decode(row[:length]) for row, length in zip(rows, lengths.tolist(), strict=True)
        ]

    def _decode(self, log_probs: Tensor) -> list[Hypothesis]:
        root = _Prefix((), 0.0, self.model.initial_state())
        self._foresee([root])
        beam = {root: _Mass(blank=0.0)}
        for frame in log_probs.double().numpy():
            beam = self._advance(beam, frame)
        found = [self._finish(prefix, mass.total) for prefix, mass in beam.items()]
        best = sorted(found, key=lambda hypothesis: -hypothesis.score)[: self.n_best]
        return [_with_times(hypothesis, log_probs) for hypothesis in best]

    def _advance(
        self, beam: dict[_Prefix, _Mass], frame: NDArray[np.float64]
    ) -> dict[_Prefix, _Mass]:
        following: dict[_Prefix, _Mass] = {}
        characters = [int(c) for c in np.flatnonzero(frame > LEAST_LOG_PROB) if c]
        values = frame.tolist()
        blank = values[self.tokenizer.blank]
        for prefix, mass in beam.items():
            last = prefix.tokens[-1] if prefix.tokens else self.space
            total = mass.total
            stay = following.setdefault(prefix, _Mass())
            idle = last is not None and last == self.space
            silence = _add(blank, values[last]) if idle else blank
            stay.blank = _add(stay.blank, total + silence)
            if not idle and last is not None:
                stay.solid = _add(stay.solid, mass.solid + values[last])
            for character in characters:
                if idle and character == last:
                    continue
                child = self._child(prefix, character)
                grown = following.setdefault(child, _Mass())
                before = mass.blank if character == last else total
                grown.solid = _add(grown.solid, before + values[character])
        ranked = sorted(following, key=lambda p: -self._score(p, following[p].total))
        kept = ranked[: self.beam_width]
        self._foresee([prefix for prefix in kept if prefix.foreseen is None])
        return {prefix: following[prefix] for prefix in kept}

    def _child(self, prefix: _Prefix, character: int) -> _Prefix:
        if character not in prefix.children:
            assert prefix.foreseen is not None  # it was in the beam
            score = prefix.lm_score + prefix.foreseen[character]
            prefix.children[character] = _Prefix((*prefix.tokens, character), score, prefix.state)
        return prefix.children[character]

    def _foresee(self, prefixes: list[_Prefix]) -> None:
        """Let the model read the last character of each prefix, all in one batch."""
        if not prefixes:
            return
        last = torch.tensor(
            [prefix.tokens[-1] if prefix.tokens else BOUNDARY for prefix in prefixes]
        )
        states = torch.stack([prefix.state for prefix in prefixes])
        log_probs, states = self.model.step(last, states)
        for prefix, row, state in zip(prefixes, log_probs.tolist(), states, strict=True):
            prefix.foreseen, prefix.state = row, state

    def _score(self, prefix: _Prefix, acoustic: float) -> float:
        return acoustic + self.weight * prefix.lm_score + self.character_score * len(prefix.tokens)

    def _finish(self, prefix: _Prefix, acoustic: float) -> Hypothesis:
        """End the text here."""
        assert prefix.foreseen is not None  # it was in the beam
        lm_score = prefix.lm_score + prefix.foreseen[BOUNDARY]
        score = acoustic + self.weight * lm_score + self.character_score * len(prefix.tokens)
        text = self.tokenizer.decode(prefix.tokens)
        return Hypothesis(text, prefix.tokens, (), score, acoustic, lm_score)


def check_same_alphabet(tokenizer: CharTokenizer, model: CharacterModel) -> None:
    """Refuse a character model that spells differently.

    Raises:
        ConfigError: the alphabets differ.
    """
    if tokenizer.alphabet != model.tokenizer.alphabet:
        raise ConfigError(
            f"the character model has the alphabet {model.tokenizer.alphabet!r}, the recogniser "
            f"{tokenizer.alphabet!r}; train one on the same characters"
        )


def _with_times(hypothesis: Hypothesis, log_probs: Tensor) -> Hypothesis:
    """Add the frames in which the characters start on the best path of the text."""
    if not hypothesis.tokens:
        return hypothesis
    targets = torch.tensor([hypothesis.tokens], dtype=torch.int32)
    path = forced_align(log_probs[None], targets)[0][0]
    starts = (path != torch.nn.functional.pad(path[:-1], (1, 0))) & (path > 0)
    return replace(hypothesis, timesteps=tuple(starts.nonzero().flatten().tolist()))


def _add(a: float, b: float) -> float:
    """Return log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))
