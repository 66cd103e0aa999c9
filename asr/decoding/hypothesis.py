"""What every decoder takes and returns."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One candidate transcript of an utterance.

    Attributes:
        text: the tokens as text.
        tokens: token ids, repeats collapsed and blanks removed.
        timesteps: output frame in which each token starts, strictly increasing.
        score: what the decoder maximises: acoustic and weighted language scores and bonuses,
            natural logarithm.
        acoustic_score: natural logarithm of the probability of the best path, or of all paths
            that the decoder summed, without any language model.
        lm_score: natural logarithm of the probability that the language model gives to the
            text, unweighted; 0 without a language model.
    """

    text: str
    tokens: tuple[int, ...]
    timesteps: tuple[int, ...]
    score: float
    acoustic_score: float
    lm_score: float = 0.0


class Decoder(Protocol):
    """Finds texts in log-probabilities."""

    def decode(self, log_probs: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Decode a batch.

        Args:
            log_probs: (batch, frames, vocab) float32, natural log, normalised over vocab.
            lengths: (batch,) int64, valid frames of each item.

        Returns:
            An n-best list per utterance, best first, of at least one hypothesis.

        Raises:
            ValueError: a length exceeds the padded frames.
        """
        ...
