"""Greedy (best path) decoding."""

from torch import Tensor, nn

from asr.decoding.hypothesis import Hypothesis
from asr.features import length_mask
from asr.text import CharTokenizer


class GreedyDecoder:
    """Takes the best token of each frame, collapses repeats, then removes blanks.

    Reference: Graves et al. 2006, "Connectionist Temporal Classification", section 3.2,
    "best path decoding".

    Args:
        tokenizer: gives the text of the tokens and the blank.
    """

    def __init__(self, tokenizer: CharTokenizer) -> None:
        self.tokenizer = tokenizer

    def decode(self, log_probs: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Decode a batch.

        Args:
            log_probs: (batch, frames, vocab) float32, natural log, normalised over vocab.
            lengths: (batch,) int64, valid frames of each item.

        Returns:
            An n-best list per utterance, here of one hypothesis, whose score is the
            log-probability of the best path.

        Raises:
            ValueError: a length exceeds the padded frames.
        """
        mask = length_mask(lengths, log_probs.shape[1])
        best, path = log_probs.max(dim=2)
        path = path.masked_fill(~mask, self.tokenizer.blank)
        previous = nn.functional.pad(path, (1, -1), value=self.tokenizer.blank)
        starts = path.masked_fill(path == previous, self.tokenizer.blank).cpu()
        scores = best.masked_fill(~mask, 0).sum(dim=1).tolist()
        return [[self._hypothesis(*item)] for item in zip(starts, scores, strict=True)]

    def _hypothesis(self, starts: Tensor, score: float) -> Hypothesis:
        timesteps = (starts != self.tokenizer.blank).nonzero().flatten()
        tokens = starts[timesteps].tolist()
        text = self.tokenizer.decode(tokens)
        return Hypothesis(text, tuple(tokens), tuple(timesteps.tolist()), score, score)
