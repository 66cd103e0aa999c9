"""Front ends: waveforms to log-mel or MFCC features.

Every front end is an ``nn.Module`` that gives an utterance the same features alone and in any
zero-padded batch: frames are cut with zero padding, and all statistics count valid frames only.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchaudio.functional import compute_deltas, create_dct
from torchaudio.transforms import MelSpectrogram

from asr.errors import ConfigError

# Added before the division by the deviation, lest frames that are nearly alike, as in silence,
# magnify rounding, which differs between batches.
SMALLEST_VARIANCE = 1e-3
LARGEST = {  # lest a damaged file asks for any
    "sample_rate": 1_000_000,
    "n_fft": 65_536,
    "win_length": 65_536,
    "hop_length": 65_536,
    "n_mels": 1_024,
    "n_mfcc": 1_024,
}


@dataclass(frozen=True)
class FeatureConfig:
    """Settings of the front end.

    Attributes:
        kind: ``log_mel`` or ``mfcc``.
        sample_rate: rate of the waveforms, Hz.
        n_fft: FFT size, samples.
        win_length: window (Hann), samples.
        hop_length: distance of two frames, samples.
        n_mels: mel bands.
        n_mfcc: cepstral coefficients kept, for ``mfcc``.
        deltas: orders of time derivatives appended: 0, 1 or 2.
        f_min: lowest mel frequency, Hz.
        f_max: highest mel frequency, Hz; half the sample rate if ``None``.
        log_floor: mel power below this counts as this, which bounds the log of silence.
        normalisation: ``utterance`` takes mean and deviation of each feature over the
            utterance, ``global`` over the training set, ``none`` leaves features as they are.
    """

    kind: Literal["log_mel", "mfcc"] = "log_mel"
    sample_rate: int = 16_000
    n_fft: int = 512
    win_length: int = 400
    hop_length: int = 160
    n_mels: int = 80
    n_mfcc: int = 40
    deltas: Literal[0, 1, 2] = 0
    f_min: float = 20.0
    f_max: float | None = None
    log_floor: float = 1e-8
    normalisation: Literal["utterance", "global", "none"] = "utterance"

    def __post_init__(self) -> None:
        for name, largest in LARGEST.items():
            if not 1 <= getattr(self, name) <= largest:
                raise ConfigError(f"{name} {getattr(self, name)} is not in 1..{largest}")
        if not 0 < self.log_floor < math.inf:
            raise ConfigError(f"log_floor {self.log_floor} is not above 0, or silence has no log")
        if self.win_length > self.n_fft:
            raise ConfigError(f"win_length {self.win_length} exceeds n_fft {self.n_fft}")
        if self.n_fft % 2:  # centred frames would be one fewer in some lengths
            raise ConfigError(f"n_fft {self.n_fft} is odd; give an even number")
        if self.f_max is not None and self.f_max > self.sample_rate / 2:
            raise ConfigError(f"f_max {self.f_max} Hz exceeds half of {self.sample_rate} Hz")
        if self.kind == "mfcc" and self.n_mfcc > self.n_mels:
            raise ConfigError(f"n_mfcc {self.n_mfcc} exceeds n_mels {self.n_mels}")

    @property
    def n_features(self) -> int:
        """Features of one frame, deltas included."""
        base = self.n_mels if self.kind == "log_mel" else self.n_mfcc
        return base * (1 + self.deltas)

    @property
    def frame_seconds(self) -> float:
        """Distance of two frames in seconds."""
        return self.hop_length / self.sample_rate

    def num_frames(self, samples: int) -> int:
        """Return how many frames a waveform of ``samples`` gives."""
        return 1 + samples // self.hop_length


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Return a mask that is true inside each item.

    Args:
        lengths: (batch,) int64, valid steps of each item.
        size: padded steps.

    Returns:
        (batch, size) bool.

    Raises:
        ValueError: a length exceeds ``size``.
    """
    if lengths.numel() and int(lengths.max()) > size:
        raise ValueError(f"a length of {int(lengths.max())} exceeds the {size} padded steps")
    return torch.arange(size, device=lengths.device) < lengths[:, None]


class LogMel(nn.Module):
    """Natural logarithm of mel-band power (HTK mel scale, Hann window, centred frames).

    Reference: Davis and Mermelstein 1980, "Comparison of parametric representations for
    monosyllabic word recognition in continuously spoken sentences".
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = MelSpectrogram(
            sample_rate=config.sample_rate,
            n_fft=config.n_fft,
            win_length=config.win_length,
            hop_length=config.hop_length,
            f_min=config.f_min,
            f_max=config.f_max,
            n_mels=config.n_mels,
            # Zeros beyond both ends, as in a zero-padded batch, and any length down to one sample.
            pad_mode="constant",
        )

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return log-mel features.

        Args:
            waveforms: (batch, time) float32 in -1..1, zero beyond each item's length.

        Returns:
            (batch, frames, n_mels), frames = 1 + time // hop_length.
        """
        return self.mel(waveforms).clamp(min=self.config.log_floor).log().transpose(1, 2)


class Mfcc(nn.Module):
    """Mel-frequency cepstral coefficients: orthonormal DCT-II of the log-mel bands."""

    dct: Tensor

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.log_mel = LogMel(config)
        self.register_buffer("dct", create_dct(config.n_mfcc, config.n_mels, norm="ortho"))

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return (batch, frames, n_mfcc) for (batch, time); see :meth:`LogMel.forward`."""
        return self.log_mel(waveforms) @ self.dct


class FeatureExtractor(nn.Module):
    """The front end without its normalisation: spectrum, deltas, lengths. It has no state."""

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.spectrum = LogMel(config) if config.kind == "log_mel" else Mfcc(config)
        # Window, mel filters and DCT follow from the settings: no need to store them.
        for module in self.modules():
            module._non_persistent_buffers_set.update(module._buffers)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and their lengths.

        Args:
            waveforms: (batch, time) float32 in -1..1; samples beyond a length are ignored.
            lengths: (batch,) int64, valid samples of each item, at least 1.

        Returns:
            features (batch, frames, n_features), zero beyond each item's frames, and
            feature_lengths (batch,) int64.

        Raises:
            ValueError: a length exceeds the padded time.
        """
        waveforms = waveforms.masked_fill(~length_mask(lengths, waveforms.shape[1]), 0.0)
        features = self.spectrum(waveforms)
        feature_lengths = 1 + lengths // self.config.hop_length
        features = self._append_deltas(features, feature_lengths)
        mask = length_mask(feature_lengths, features.shape[1])[..., None]
        return features * mask, feature_lengths

    def _append_deltas(self, features: Tensor, lengths: Tensor) -> Tensor:
        # Deltas look past the end of an item: let them see its last frame, not the padding.
        frames = torch.arange(features.shape[1], device=features.device)
        index = torch.minimum(frames[None], lengths[:, None] - 1)[..., None]
        orders = [features]
        for _ in range(self.config.deltas):
            held = orders[-1].gather(1, index.expand_as(features))
            orders.append(compute_deltas(held.transpose(1, 2)).transpose(1, 2))
        return torch.cat(orders, dim=2)


class Normalisation(nn.Module):
    """Brings each feature to mean 0 and deviation 1, over the utterance or the training set.

    The statistics of ``global`` normalisation are buffers, so they travel with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.kind = config.normalisation
        self.register_buffer("mean", torch.zeros(config.n_features))
        self.register_buffer("std", torch.ones(config.n_features))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Store the (n_features,) mean and deviation of the training set, for ``global``."""
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Normalise (batch, frames, n_features); what lies beyond a length becomes zero."""
        mask = length_mask(lengths, features.shape[1])[..., None]
        if self.kind == "none":
            return features * mask
        if self.kind == "global":
            return (features - self.mean) / self.std * mask
        count = lengths[:, None, None]
        mean = (features * mask).sum(dim=1, keepdim=True) / count
        centred = (features - mean) * mask
        variance = centred.square().sum(dim=1, keepdim=True) / count
        return centred * (variance + SMALLEST_VARIANCE).rsqrt()
