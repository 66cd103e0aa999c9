"""N-best lists put into a new order by a character language model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from asr.decoding.fusion import check_same_alphabet
from asr.decoding.hypothesis import Decoder, Hypothesis
from asr.lm.character import CharacterModel
from asr.text import CharTokenizer


class Rescorer:
    """Adds a character model's opinion to the scores of finished hypotheses.

    Together with an n-gram beam both models count: the n-gram knows the words, the recurrent
    model the whole sentence.

    Args:
        tokenizer: of the acoustic model.
        model: character model of the same alphabet.
        weight: of the model's natural-log probability.
        character_score: added for each character, as the model costs each some.

    Raises:
        ConfigError: the alphabets differ.
    """

    def __init__(
        self,
        tokenizer: CharTokenizer,
        model: CharacterModel,
        *,
        weight: float = 0.4,
        character_score: float = 1.1,
    ) -> None:
        check_same_alphabet(tokenizer, model)
        self.model = model
        self.weight = weight
        self.character_score = character_score

    def rescore(self, n_best_lists: Sequence[Sequence[Hypothesis]]) -> list[list[Hypothesis]]:
        """Return the lists with new scores, best first.

        ``lm_score`` becomes the sum of both models' natural-log probabilities.
        """
        texts = [hypothesis.text for n_best in n_best_lists for hypothesis in n_best]
        foreseen = iter(self.model.score(texts).tolist())
        results = []
        for n_best in n_best_lists:
            rescored = [self._with(hypothesis, next(foreseen)) for hypothesis in n_best]
            results.append(sorted(rescored, key=lambda hypothesis: -hypothesis.score))
        return results

    def _with(self, hypothesis: Hypothesis, log_prob: float) -> Hypothesis:
        bonus = self.weight * log_prob + self.character_score * len(hypothesis.text)
        return replace(
            hypothesis,
            score=hypothesis.score + bonus,
            lm_score=hypothesis.lm_score + log_prob,
        )


@dataclass(frozen=True)
class RescoringDecoder:
    """A decoder whose n-best lists are rescored.

    Attributes:
        first: finds the hypotheses.
        rescorer: puts them into a new order.
    """

    first: Decoder
    rescorer: Rescorer

    def decode(self, log_probs: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Decode a batch; see :class:`~asr.decoding.hypothesis.Decoder`."""
        return self.rescorer.rescore(self.first.decode(log_probs, lengths))
