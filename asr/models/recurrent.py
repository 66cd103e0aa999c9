"""Recurrent layers over padded batches, exact for every length.

A backward pass through time that started in the padding would carry it into the speech. The
usual cure, ``pack_padded_sequence``, takes the slow path on a CPU, several times slower
than a padded ``nn.LSTM``. Here each item is reversed *within its own length* instead, so that
both directions start at real frames and padding only ever follows them.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

Cell = Literal["lstm", "gru", "rnn_tanh", "rnn_relu"]
Kernel = Callable[["RecurrentLayer", Tensor, Tensor], Tensor]


def reversal_index(lengths: Tensor, size: int) -> Tensor:
    """Return the (batch, size) index that reverses each item within its length.

    Padding keeps its place, and applying the index twice gives the original order.
    """
    steps = torch.arange(size, device=lengths.device)[None]
    lengths = lengths[:, None]
    return torch.where(steps < lengths, lengths - 1 - steps, steps)


def reverse(x: Tensor, index: Tensor) -> Tensor:
    """Reorder (batch, time, features) along time by an index from :func:`reversal_index`."""
    return x.gather(1, index[..., None].expand_as(x))


def make_cell(cell: Cell, input_size: int, hidden_size: int) -> nn.RNNBase:
    """Return one direction of one layer, with orthogonal recurrent weights.

    An LSTM starts with its forget gate open (bias 1), so that gradients reach far back from the
    first step on. Reference: Jozefowicz et al. 2015, "An Empirical Exploration of Recurrent
    Network Architectures".
    """
    rnn: Any  # its weights are attributes by name
    if cell == "lstm":
        rnn = nn.LSTM(input_size, hidden_size, batch_first=True)
    elif cell == "gru":
        rnn = nn.GRU(input_size, hidden_size, batch_first=True)
    else:
        nonlinearity = cell.removeprefix("rnn_")
        rnn = nn.RNN(input_size, hidden_size, nonlinearity=nonlinearity, batch_first=True)
    if rnn.weight_hh_l0.is_meta:  # stored weights are to come; drawing would import half of torch
        return rnn
    for gate in rnn.weight_hh_l0.split(hidden_size):
        nn.init.orthogonal_(gate)
    if cell == "lstm":
        with torch.no_grad():
            rnn.bias_ih_l0[hidden_size : 2 * hidden_size] = 1.0
            rnn.bias_hh_l0[hidden_size : 2 * hidden_size] = 0.0
    return rnn


class RecurrentLayer(nn.Module):
    """One recurrent layer, in one or both directions; the directions are concatenated.

    Reference: Schuster and Paliwal 1997, "Bidirectional Recurrent Neural Networks".
    """

    def __init__(self, cell: Cell, input_size: int, hidden_size: int, bidirectional: bool) -> None:
        super().__init__()
        self.forwards = make_cell(cell, input_size, hidden_size)
        self.backwards = make_cell(cell, input_size, hidden_size) if bidirectional else None
        self.kernel: Kernel | None = None  # computes the layer instead, see native_lstm.py

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Run the layer.

        Args:
            x: (batch, time, input_size).
            index: (batch, time) from :func:`reversal_index`.

        Returns:
            (batch, time, directions * hidden_size); what stands in the padding is arbitrary.
        """
        if self.kernel is not None:
            return self.kernel(self, x, index)
        if x.is_cuda:
            # Under any autocast cuDNN would compute in float16, where small gradients vanish.
            with torch.autocast("cuda", enabled=False):
                return self._directions(x.to(next(self.parameters()).dtype), index)
        return self._directions(x, index)

    def _directions(self, x: Tensor, index: Tensor) -> Tensor:
        y = self.forwards(x)[0]
        if self.backwards is None:
            return y
        z = reverse(self.backwards(reverse(x, index))[0], index)
        return torch.cat([y, z], dim=2)


class LockedDropout(nn.Module):
    """Dropout whose mask is drawn once per utterance and held over time.

    Reference: Gal and Ghahramani 2016, "A Theoretically Grounded Application of Dropout in
    Recurrent Neural Networks".
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop features of (batch, time, features) for whole utterances while training."""
        if not self.training or self.p == 0:
            return x
        return x * nn.functional.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.p)


class RecurrentBlock(nn.Module):
    """A residual step of the stack: x + dropout(recurrent(norm(x)))."""

    def __init__(self, cell: Cell, hidden_size: int, bidirectional: bool, dropout: float) -> None:
        super().__init__()
        size = hidden_size * (1 + bidirectional)
        self.norm = nn.LayerNorm(size)
        self.recurrent = RecurrentLayer(cell, size, hidden_size, bidirectional)
        self.dropout = LockedDropout(dropout)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Map (batch, time, size) to the same shape."""
        return x + self.dropout(self.recurrent(self.norm(x), index))
