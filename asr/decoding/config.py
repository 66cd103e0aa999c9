"""Settings of the decoder; they travel in the model bundle."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from asr.errors import ConfigError

Method = Literal["greedy", "beam", "fusion"]


@dataclass(frozen=True)
class DecoderConfig:
    """How text is found in the log-probabilities.

    Attributes:
        method: ``greedy`` takes the best token of each frame; ``beam`` searches over prefixes,
            with the words of a language model where there is one; ``fusion`` searches over
            prefixes with a character model alone.
        beam_width: prefixes that are kept from frame to frame.
        lm_weight: of the language model's natural-log probability.
        word_score: added for each word; above 0 for more, shorter words.
        unknown_score: added for each piece of a word that the language model does not list;
            far below 0 for a closed vocabulary.
        hotword_score: added for each hotword.
        priors: natural log of the acoustic model's mean posterior of each token, see
            :mod:`~asr.decoding.priors`; empty if not known.
        prior_weight: of the priors that are subtracted before a search with n-grams.
        n_best: most hypotheses per utterance; among those of the beam a character model chooses.
        char_lm_weight: then, of the character model's natural-log probability; 0 leaves the
            model out.
        char_score: then, added for each character.
        fusion_width: as ``beam_width``, in fusion, which is slower and needs fewer.
        fusion_weight: as ``char_lm_weight``, in fusion, where no n-grams help.
        fusion_score: as ``char_score``, in fusion.
        confidence_scale: of the log-odds of a word's confidence, see
            :class:`~asr.decoding.calibration.Calibration`.
        confidence_offset: added to the scaled log-odds.
    """

    method: Method = "greedy"
    beam_width: int = 100
    lm_weight: float = 0.6
    word_score: float = 0.5
    unknown_score: float = -6.0
    hotword_score: float = 6.0
    priors: tuple[float, ...] = ()
    prior_weight: float = 0.0
    n_best: int = 20
    char_lm_weight: float = 0.4
    char_score: float = 1.1
    fusion_width: int = 32
    fusion_weight: float = 0.8
    fusion_score: float = 1.3
    confidence_scale: float = 1.0
    confidence_offset: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ConfigError(
                f"decoding method {self.method!r} is unknown; use 'greedy', 'beam' or 'fusion'"
            )
        object.__setattr__(self, "priors", tuple(self.priors))  # JSON knows lists alone
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{name} {value} is not finite; give a number")
        for name in ("beam_width", "n_best", "fusion_width"):
            if not 1 <= getattr(self, name) < 2**31:
                raise ConfigError(f"{name} {getattr(self, name)} is not in 1..{2**31 - 1}")
        for name in ("lm_weight", "prior_weight", "char_lm_weight", "fusion_weight"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} {getattr(self, name)} is below 0")
        if self.confidence_scale <= 0:
            raise ConfigError(f"confidence_scale {self.confidence_scale} is not above 0")
