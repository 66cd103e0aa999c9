"""Settings of the decoder; they travel in the model bundle."""

from dataclasses import dataclass
from typing import Literal

from asr.errors import ConfigError

Method = Literal["greedy", "beam"]


@dataclass(frozen=True)
class DecoderConfig:
    """How text is found in the log-probabilities.

    Attributes:
        method: ``greedy`` takes the best token of each frame; ``beam`` searches over prefixes,
            with the words of a language model where there is one.
        beam_width: prefixes that are kept from frame to frame.
        lm_weight: of the language model's natural-log probability.
        word_score: added for each word; above 0 for more, shorter words.
        unknown_score: added for each piece of a word that the language model does not list;
            far below 0 for a closed vocabulary.
        hotword_score: added for each hotword.
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
    confidence_scale: float = 1.0
    confidence_offset: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in ("greedy", "beam"):
            raise ConfigError(f"decoding method {self.method!r} is unknown; use 'greedy' or 'beam'")
        if self.beam_width < 1:
            raise ConfigError(f"beam_width {self.beam_width} is not at least 1")
        if self.lm_weight < 0:
            raise ConfigError(f"lm_weight {self.lm_weight} is below 0")
        if self.confidence_scale <= 0:
            raise ConfigError(f"confidence_scale {self.confidence_scale} is not above 0")
