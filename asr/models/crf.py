"""The CTC-CRF loss: the phones of a text against all other phones that could have been said.

CTC makes the right phones likely, each frame for itself. A search compares whole sentences: what
counts there is how much likelier the right phones are than the best of the wrong ones. So the loss
weighs each sequence by a trigram of phones, and divides by the sum over every sequence there is:

    p(phones | audio) = p(phones) ctc(phones) / sum over all sequences s of p(s) ctc(s)

where ctc is CTC's sum over paths. So the network need not learn what a language model will know,
nor guard against sequences that it will rule out.

The loss is -log of that, less p(phones), which no weight changes, and with a tenth of CTC's loss
beside it (``asr/training.py``). At the scores before the softmax its gradient is, frame by frame,
the share of each phone in all sequences less its share in the right one; CTC's is the network's
own probability of the phone less that share.

References: Xiang and Ou 2019, "CRF-based Single-stage Acoustic Modeling with CTC Topology"; Povey
et al. 2016, "Purely sequence-trained neural networks for ASR based on lattice-free MMI".
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from asr.features import length_mask

BLANK = 0
BOUNDARY = 0  # what is before a text and after it; there is no blank in texts


def phone_trigram(texts: Iterable[Sequence[int]], vocab: int) -> Tensor:
    """Estimate a trigram of tokens, with the smoothing of Witten and Bell (1991).

    Args:
        texts: token ids of each utterance, 1..vocab-1; none where nobody speaks.
        vocab: number of tokens, the blank among them.

    Returns:
        (vocab, vocab, vocab) float64, the probability of the third token after the first two; id 0
        is what stands before a text and after it.
    """
    trigrams = [torch.tensor((BOUNDARY, BOUNDARY, *x, BOUNDARY)).unfold(0, 3, 1) for x in texts]
    codes = torch.cat(trigrams) @ torch.tensor([vocab * vocab, vocab, 1])
    counts = torch.bincount(codes, minlength=vocab**3).view(vocab, vocab, vocab).double()
    probability = torch.full((vocab,), 1 / vocab, dtype=torch.float64)
    for seen in (counts.sum((0, 1)), counts.sum(0), counts):  # of one, two and three tokens
        kinds = (seen > 0).sum(-1, keepdim=True).clamp(min=1)
        probability = (seen + kinds * probability) / (seen.sum(-1, keepdim=True) + kinds)
    return probability


class Denominator:
    """Sums the probabilities of all token sequences over all their paths, exactly.

    Args:
        trigram: of :func:`phone_trigram`.
        device: where it will be used.
    """

    def __init__(self, trigram: Tensor, device: torch.device | str = "cpu") -> None:
        after = trigram.to(device, torch.float32, copy=True)
        end = after[:, :, BOUNDARY].clone()
        after[:, :, BOUNDARY] = 0
        # States are kept as (last, batch, first of two), the order of batched products.
        self.after = after.transpose(0, 1).contiguous()
        self.end = end.t().contiguous()

    def __call__(self, log_probs: Tensor, lengths: Tensor) -> Tensor:
        """Return the natural log of that sum, (batch,).

        Args:
            log_probs: (batch, frames, vocab) float32, natural log; the blank is 0. At least one
                frame.
            lengths: (batch,) int64, valid frames; the others do not count.
        """
        with torch.autocast(log_probs.device.type, enabled=False):
            total: Tensor = _LogSum.apply(log_probs, lengths, self.after, self.end)
        return total


class _LogSum(torch.autograd.Function):
    """Forward-backward in probabilities, scaled frame by frame; its gradient is the occupancy."""

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, lengths: Tensor, after: Tensor, end: Tensor) -> Tensor:
        inside = length_mask(lengths, log_probs.shape[1])
        # Blanks, for certain, fill up the padding: they change no sum.
        certain = torch.zeros_like(log_probs[0, 0])
        certain[BLANK] = 1
        y = torch.where(inside[:, :, None], log_probs.exp(), certain)
        y = y.permute(1, 2, 0)[..., None].contiguous()  # (frames, vocab, batch, 1)
        labels, blanks, scales = _forward(y, after)
        final = ((labels[-1] + blanks[-1]) * end[:, None]).sum((0, 2))
        if ctx.needs_input_grad[0]:
            to_end = end[:, None] / final[:, None]
            occupancy = _occupancy(y, after, to_end, labels, blanks, scales)
            ctx.save_for_backward(occupancy * inside[:, :, None])
        return scales.log().sum(0) + final.log()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        (occupancy,) = ctx.saved_tensors
        return gradient[:, None, None] * occupancy, None, None, None


def _repeats(after: Tensor) -> Tensor:
    """Return the probability of the last token once more, (last, 1, first)."""
    return after.diagonal(dim1=0, dim2=2).t()[:, None]


def _forward(y: Tensor, after: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the share of each state in the paths up to each frame, and the frames' scales.

    A state is the last two tokens, and whether the frame is the last one's or a blank.
    """
    frames, vocab, batch, _ = y.shape
    labels, blanks = y.new_empty(2, frames, vocab, batch, vocab)
    scales = y.new_empty(frames, batch)
    repeats = _repeats(after)
    label, blank = y.new_zeros(2, vocab, batch, vocab)
    blank[BOUNDARY, :, BOUNDARY] = 1
    for t in range(frames):
        either = label + blank
        new = torch.bmm(either, after)  # (last, batch, new)
        # Without a blank between them, two frames of a token are one.
        new.diagonal(dim1=0, dim2=2).sub_((label * repeats).sum(2).t())
        label = y[t] * (label + new.transpose(0, 2))
        blank = y[t, BLANK] * either
        scales[t] = (label + blank).sum((0, 2))
        label, blank = label / scales[t, :, None], blank / scales[t, :, None]
        labels[t], blanks[t] = label, blank
    return labels, blanks, scales


def _occupancy(
    y: Tensor, after: Tensor, to_end: Tensor, labels: Tensor, blanks: Tensor, scales: Tensor
) -> Tensor:
    """Return the share of each token in all paths at each frame, (batch, frames, vocab)."""
    occupancy = torch.empty_like(y[..., 0])  # (frames, vocab, batch)
    repeats = _repeats(after)
    before = after.transpose(1, 2).contiguous()
    label = blank = to_end.expand_as(labels[0])
    for t in reversed(range(len(y))):
        occupancy[t] = (labels[t] * label).sum(2)
        occupancy[t, BLANK] = (blanks[t] * blank).sum((0, 2))
        label, blank = y[t] * label, y[t, BLANK] * blank
        again = label.diagonal(dim1=0, dim2=2).t()[..., None]
        blank = blank + torch.bmm(label.transpose(0, 2), before)
        label = blank + label - repeats * again
        label, blank = label / scales[t, :, None], blank / scales[t, :, None]
    return occupancy.permute(2, 0, 1)
