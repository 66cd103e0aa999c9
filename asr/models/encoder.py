"""The encoder: convolutional subsampling, then a residual stack of recurrent layers."""

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from asr.errors import ConfigError
from asr.features import length_mask
from asr.models.recurrent import Cell, LockedDropout, RecurrentBlock, reversal_index

LARGEST = {  # lest a damaged file asks for any
    "hidden_size": 10_000,
    "num_layers": 1_000,
    "conv_channels": 10_000,
}


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of the encoder.

    Attributes:
        cell: ``lstm``, ``gru``, ``rnn_tanh`` or ``rnn_relu``.
        bidirectional: whether each layer also reads the utterance from its end.
        hidden_size: units of one direction.
        num_layers: recurrent layers.
        subsampling: input frames per output frame: 2, 3 or 4.
        conv_channels: channels of the two convolutions in front.
        dropout: rate between the layers, locked over time.
    """

    cell: Cell = "lstm"
    bidirectional: bool = True
    hidden_size: int = 320
    num_layers: int = 3
    subsampling: Literal[2, 3, 4] = 4
    conv_channels: int = 32
    dropout: float = 0.2

    def __post_init__(self) -> None:
        for name, largest in LARGEST.items():
            if not 1 <= getattr(self, name) <= largest:
                raise ConfigError(f"{name} {getattr(self, name)} is not in 1..{largest}")
        if self.subsampling not in (2, 3, 4):
            raise ConfigError(f"subsampling {self.subsampling} is not 2, 3 or 4")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout {self.dropout} is not in 0..1")

    @property
    def output_size(self) -> int:
        """Features of one encoded frame."""
        return self.hidden_size * (1 + self.bidirectional)

    def output_length(self, frames: int) -> int:
        """Return how many encoded frames come out of ``frames`` feature frames."""
        return -(-frames // self.subsampling)


class MaskedConv(nn.Module):
    """A 3- or 5-wide convolution over time and frequency that never sees padding."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__()
        # Wide enough that neighbours overlap; padding makes the output ceil(frames / stride).
        kernel = (5 if stride[0] == 3 else 3, 3)
        padding = (kernel[0] // 2, 1)
        self.stride = stride
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (batch, inputs, time, frequency) to (batch, outputs, ceil(time / stride), …)."""
        y = nn.functional.relu(self.conv(x))
        lengths = (lengths + self.stride[0] - 1) // self.stride[0]
        return y * length_mask(lengths, y.shape[2])[:, None, :, None], lengths


class Subsampling(nn.Module):
    """Two convolutions that shorten time by 2, 3 or 4 and frequency by 4, then a projection."""

    def __init__(self, n_features: int, config: EncoderConfig) -> None:
        super().__init__()
        first, second = {2: (2, 1), 3: (3, 1), 4: (2, 2)}[config.subsampling]
        channels = config.conv_channels
        self.conv1 = MaskedConv(1, channels, (first, 2))
        self.conv2 = MaskedConv(channels, channels, (second, 2))
        bands = math.ceil(n_features / 4)
        self.project = nn.Linear(channels * bands, config.output_size)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (batch, frames, n_features), zero in the padding, to (batch, time, output_size)."""
        y, lengths = self.conv1(x[:, None], lengths)
        y, lengths = self.conv2(y, lengths)
        return self.project(y.transpose(1, 2).flatten(2)), lengths


class Encoder(nn.Module):
    """Feature frames to encoded frames; exact masking, so batch-mates never change a result."""

    def __init__(self, n_features: int, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.subsampling = Subsampling(n_features, config)
        self.dropout = LockedDropout(config.dropout)
        self.blocks = nn.ModuleList(
            RecurrentBlock(config.cell, config.hidden_size, config.bidirectional, config.dropout)
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(config.output_size)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a padded batch.

        Args:
            features: (batch, frames, n_features), zero beyond each item's length.
            lengths: (batch,) int64, valid frames of each item.

        Returns:
            (batch, ceil(frames / subsampling), output_size) and lengths (batch,) int64.
        """
        x, lengths = self.subsampling(features, lengths)
        x = self.dropout(x)
        index = reversal_index(lengths, x.shape[1])
        for block in self.blocks:
            x = block(x, index)
        return self.norm(x), lengths
