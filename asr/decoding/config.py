"""Settings of the decoder; they travel in the model bundle."""

from dataclasses import dataclass
from typing import Literal

from asr.errors import ConfigError


@dataclass(frozen=True)
class DecoderConfig:
    """How text is found in the log-probabilities.

    Attributes:
        method: ``greedy`` takes the best token of each frame.
    """

    method: Literal["greedy"] = "greedy"

    def __post_init__(self) -> None:
        if self.method != "greedy":
            raise ConfigError(f"decoding method {self.method!r} is unknown; use 'greedy'")
