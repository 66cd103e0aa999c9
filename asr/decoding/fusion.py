"""Prefix beam search in which a character language model foresees every character."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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


@dataclass
class _Beam:
    """The prefixes of an utterance, and what the language model makes of them.

    Attributes:
        prefixes: token ids of each.
        blank: (prefixes,) log-probability of the paths that end in a blank.
        solid: of those that do not.
        lm_scores: natural log of the probability of each prefix.
        foreseen: (prefixes, vocab) log-probability of each token that may follow.
        states: (prefixes, …) of the language model.
        unread: (prefixes,) whether the model has not read the last character yet.
    """

    prefixes: list[tuple[int, ...]]
    blank: NDArray[np.float64]
    solid: NDArray[np.float64]
    lm_scores: NDArray[np.float64]
    foreseen: NDArray[np.float64]
    states: Tensor
    unread: NDArray[np.bool_]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.array([len(prefix) for prefix in self.prefixes])


class FusionDecoder:
    """Sums the paths of each prefix and weighs it with a character model's probability.

    All new prefixes of a frame, those of all utterances, go through the model in one batch. A
    space at the begin or after another one counts as silence.

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
        ConfigError: the alphabets differ, or the model reads pieces of words.
    """

    def __init__(
        self,
        tokenizer: CharTokenizer,
        model: CharacterModel,
        *,
        beam_width: int = 32,
        weight: float = 0.8,
        character_score: float = 1.3,
        n_best: int = 1,
    ) -> None:
        check_same_alphabet(tokenizer, model)
        if model.config.pieces:
            raise ConfigError(
                "fusion goes character by character, and this character model reads pieces of "
                "words; give one of characters with --char-lm, or use the beam"
            )
        self.tokenizer = tokenizer
        self.model = model
        self.beam_width = beam_width
        self.weight = weight
        self.character_score = character_score
        self.n_best = n_best
        self.space = tokenizer.encode(" ")[0] if " " in tokenizer.alphabet else -1
        # A text begins as after a space; without one, as after what never repeats.
        self.start = max(self.space, tokenizer.blank)

    @torch.inference_mode()
    def decode(self, log_probs: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Decode a batch; see :class:`~asr.decoding.hypothesis.Decoder`."""
        if int(lengths.max()) > log_probs.shape[1]:
            raise ValueError(f"length {int(lengths.max())} exceeds {log_probs.shape[1]} frames")
        log_probs = log_probs.float().cpu()
        frames = log_probs.double().numpy()
        beams = [self._begin() for _ in frames]
        self._read(beams)
        for t in range(int(lengths.max())):
            active = (lengths > t).nonzero().flatten().tolist()
            for i in active:
                beams[i] = self._advance(beams[i], frames[i, t])
            self._read([beams[i] for i in active])
        return [
            self._finish(beam, row[:length])
            for beam, row, length in zip(beams, log_probs, lengths.tolist(), strict=True)
        ]

    def _begin(self) -> _Beam:
        foreseen = np.zeros((1, len(self.tokenizer)))
        state = self.model.initial_state(1)
        return _Beam(
            [()], np.zeros(1), np.full(1, -np.inf), np.zeros(1), foreseen, state, np.ones(1, bool)
        )

    def _advance(self, beam: _Beam, frame: NDArray[np.float64]) -> _Beam:
        """Let the prefixes grow over a frame, and keep the best."""
        stays, grown = self._extend(beam, frame)
        scores = grown + self._bonus(
            beam.lm_scores[:, None] + beam.foreseen, beam.lengths[:, None] + 1
        )
        # No prefix grows by a blank: its column tells how those fare that stay as they are.
        blank = self.tokenizer.blank
        scores[:, blank] = self._scores(stays)
        order = np.argsort(-scores, axis=None, kind="stable")[: self.beam_width]
        rows, tokens = np.unravel_index(order[np.isfinite(scores.flat[order])], scores.shape)
        new = tokens != blank
        return _Beam(
            [
                beam.prefixes[row] if token == blank else (*beam.prefixes[row], token)
                for row, token in zip(rows.tolist(), tokens.tolist(), strict=True)
            ],
            np.where(new, -np.inf, stays.blank[rows]),
            np.where(new, grown[rows, tokens], stays.solid[rows]),
            beam.lm_scores[rows] + np.where(new, beam.foreseen[rows, tokens], 0.0),
            beam.foreseen[rows],
            beam.states[torch.from_numpy(rows)],
            new,
        )

    def _extend(self, beam: _Beam, frame: NDArray[np.float64]) -> tuple[_Beam, NDArray[np.float64]]:
        """Return the prefixes as they stay, and (prefixes, vocab) the masses of new ones."""
        blank, space = self.tokenizer.blank, self.space
        last = np.array([prefix[-1] if prefix else self.start for prefix in beam.prefixes])
        idle = last == space  # another space is silence
        total = np.logaddexp(beam.blank, beam.solid)
        silence = np.where(idle, np.logaddexp(frame[blank], frame[space]), frame[blank])
        solid = np.where(idle, -np.inf, beam.solid + frame[last])
        grown = total[:, None] + np.where(frame > LEAST_LOG_PROB, frame, -np.inf)
        grown[np.arange(len(last)), last] = np.where(idle, -np.inf, beam.blank + frame[last])
        grown[:, blank] = -np.inf
        places = {prefix: i for i, prefix in enumerate(beam.prefixes)}
        for i, prefix in enumerate(beam.prefixes):  # what grows into another one joins it
            parent = places.get(prefix[:-1], i)
            if parent != i:
                solid[i] = np.logaddexp(solid[i], grown[parent, last[i]])
                grown[parent, last[i]] = -np.inf
        return replace(beam, blank=total + silence, solid=solid), grown

    def _read(self, beams: Sequence[_Beam]) -> None:
        """Let the model read the last character of each new prefix, all in one batch."""
        places = [np.flatnonzero(beam.unread) for beam in beams]
        last = [
            (beam.prefixes[i] or (BOUNDARY,))[-1]
            for beam, rows in zip(beams, places, strict=True)
            for i in rows
        ]
        if not last:
            return
        states = torch.cat([beam.states[rows] for beam, rows in zip(beams, places, strict=True)])
        log_probs, states = self.model.step(torch.tensor(last), states)
        counts = [len(rows) for rows in places]
        for beam, rows, foreseen, after in zip(
            beams, places, log_probs.double().split(counts), states.split(counts), strict=True
        ):
            beam.foreseen[rows], beam.states[rows] = foreseen.numpy(), after

    def _bonus(
        self, lm_scores: NDArray[np.float64], lengths: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        return self.weight * lm_scores + self.character_score * lengths

    def _scores(self, beam: _Beam) -> NDArray[np.float64]:
        bonus = self._bonus(beam.lm_scores, beam.lengths)
        return np.logaddexp(beam.blank, beam.solid) + bonus

    def _finish(self, beam: _Beam, log_probs: Tensor) -> list[Hypothesis]:
        """End the texts here, and return the best."""
        beam = replace(beam, lm_scores=beam.lm_scores + beam.foreseen[:, BOUNDARY])
        scores = self._scores(beam)
        acoustic = np.logaddexp(beam.blank, beam.solid)
        hypotheses = []
        for i in np.argsort(-scores, kind="stable")[: self.n_best]:
            tokens = beam.prefixes[i]
            hypotheses.append(
                Hypothesis(
                    self.tokenizer.decode(tokens),
                    tokens,
                    _timesteps(tokens, log_probs),
                    float(scores[i]),
                    float(acoustic[i]),
                    float(beam.lm_scores[i]),
                )
            )
        return hypotheses


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


def _timesteps(tokens: tuple[int, ...], log_probs: Tensor) -> tuple[int, ...]:
    """Return the frames in which the characters start on the best path of the text."""
    if not tokens:
        return ()
    targets = torch.tensor([tokens], dtype=torch.int32)
    path = forced_align(log_probs[None], targets)[0][0]
    starts = (path != torch.nn.functional.pad(path[:-1], (1, 0))) & (path > 0)
    return tuple(starts.nonzero().flatten().tolist())
