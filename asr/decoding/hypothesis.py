"""What every decoder returns."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One candidate transcript of an utterance.

    Attributes:
        text: the tokens as text.
        tokens: token ids, repeats collapsed and blanks removed.
        timesteps: output frame in which each token starts, strictly increasing.
        score: natural logarithm of the hypothesis' probability as the decoder measures it.
    """

    text: str
    tokens: tuple[int, ...]
    timesteps: tuple[int, ...]
    score: float
