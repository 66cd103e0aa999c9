"""Augmentation, on tensors: what recordings go through before a recogniser hears them.

Waveforms are distorted by speed, room, noise, band limit, gain and MP3; features are masked by
SpecAugment. Recognition never calls anything here.
"""

import io
import math
from dataclasses import dataclass, fields

import soundfile
import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torchaudio.functional import resample

from asr.errors import ConfigError

MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
MP3_DELAY = 576 + 529  # samples: LAME's, and any decoder's


@dataclass(frozen=True)
class SpecAugmentConfig:
    """Masks over features.

    Attributes:
        frequency_masks: number of bands masked.
        frequency_width: widest band, in features.
        time_masks: number of stretches masked.
        time_fraction: longest stretch as a share of the utterance.
    """

    frequency_masks: int = 2
    frequency_width: int = 27
    time_masks: int = 10
    time_fraction: float = 0.05


def spec_augment(features: Tensor, lengths: Tensor, config: SpecAugmentConfig) -> Tensor:
    """Set random bands and stretches of each utterance to zero, the mean after normalisation.

    Args:
        features: (batch, frames, n_features), normalised.
        lengths: (batch,) int64, valid frames of each item.
        config: how many masks and how wide.

    Returns:
        A new tensor of the same shape; the draws come from torch's default generator.

    Reference: Park et al. 2019, "SpecAugment", and Park et al. 2020, "SpecAugment on Large
    Scale Datasets" (masks that scale with the utterance).
    """
    batch, frames, n_features = features.shape
    lengths = lengths.cpu()
    width = torch.full((batch,), min(config.frequency_width, n_features))
    bands = _stretches(torch.full((batch,), n_features), width, config.frequency_masks, n_features)
    longest = (lengths * config.time_fraction).long()
    times = _stretches(lengths, longest, config.time_masks, frames)
    keep = ~(bands[:, None, :] | times[:, :, None])
    return features * keep.to(features.device)


def _stretches(sizes: Tensor, longest: Tensor, count: int, padded: int) -> Tensor:
    """Return (batch, padded) bool, true in ``count`` random stretches of each item."""
    shape = (len(sizes), count)
    widths = (torch.rand(shape) * (longest[:, None] + 1)).long()
    starts = (torch.rand(shape) * (sizes[:, None] - widths + 1)).long()
    steps = torch.arange(padded)
    inside = (steps >= starts[..., None]) & (steps < (starts + widths)[..., None])
    return inside.any(dim=1)


@dataclass(frozen=True)
class WaveAugmentConfig:
    """How often and how strongly waveforms are distorted while training.

    Attributes:
        speeds: speed factors in whole percents, one drawn per utterance; pitch moves along.
        band_limit_probability: share of utterances low-passed, as telephones and MP3 do.
        band_limit_hz: lowest and highest cut-off.
        room_probability: share of utterances put into a simulated room.
        room_seconds: shortest and longest reverberation time (RT60).
        noise_probability: share of utterances with noise from ``noise_dir``.
        noise_dir: folder of noise recordings, searched with its subfolders; goes with
            ``noise_probability``, neither alone.
        snr_db: lowest and highest signal-to-noise ratio.
        gain_probability: share of utterances made louder or quieter.
        gain_db: lowest and highest gain.
        mp3_probability: share of utterances that go through MP3, as much of the web's audio did.
        mp3_kbps: lowest and highest bit rate; about 48 are common for speech.
    """

    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    band_limit_probability: float = 0.0
    band_limit_hz: tuple[float, float] = (3000.0, 7000.0)
    room_probability: float = 0.0
    room_seconds: tuple[float, float] = (0.1, 0.6)
    noise_probability: float = 0.0
    noise_dir: str | None = None
    snr_db: tuple[float, float] = (5.0, 25.0)
    gain_probability: float = 0.0
    gain_db: tuple[float, float] = (-25.0, 5.0)
    mp3_probability: float = 0.0
    mp3_kbps: tuple[float, float] = (16.0, 64.0)

    def __post_init__(self) -> None:
        if not self.speeds or min(self.speeds) <= 0:
            raise ConfigError(f"speeds {self.speeds} must name at least one factor above 0")
        if odd := [speed for speed in self.speeds if abs(100 * speed - round(100 * speed)) > 1e-6]:
            raise ConfigError(f"speeds: {odd[0]} is no whole percent, as 0.95 is; round it")
        for field in fields(self):
            share = getattr(self, field.name)
            if field.name.endswith("_probability") and not 0 <= share <= 1:
                raise ConfigError(f"{field.name} {share} is not in 0..1")
        if self.noise_probability and not self.noise_dir:
            raise ConfigError("noise_probability is set but noise_dir is not: name a folder")
        if self.noise_dir and not self.noise_probability:
            raise ConfigError(
                "noise_dir is set but noise_probability is 0: set that too, such as to 0.5, or "
                "noise_dir to null"
            )


@dataclass(frozen=True)
class Distortion:
    """What one utterance of one epoch goes through; ``None`` leaves a step out."""

    speed: float = 1.0
    room_seconds: float | None = None
    snr_db: float | None = None
    band_limit_hz: float | None = None
    gain_db: float | None = None
    mp3_kbps: float | None = None

    @property
    def only_speed(self) -> bool:
        """Whether the features depend on nothing but the recording and the speed."""
        return self == Distortion(speed=self.speed)


def draw_distortion(config: WaveAugmentConfig, generator: torch.Generator) -> Distortion:
    """Draw what happens to one utterance."""

    def uniform() -> float:
        return torch.rand((), generator=generator).item()

    def maybe(probability: float, bounds: tuple[float, float]) -> float | None:
        hit, position = uniform() < probability, uniform()
        return bounds[0] + position * (bounds[1] - bounds[0]) if hit else None

    return Distortion(
        speed=config.speeds[int(uniform() * len(config.speeds))],
        room_seconds=maybe(config.room_probability, config.room_seconds),
        snr_db=maybe(config.noise_probability, config.snr_db),
        band_limit_hz=maybe(config.band_limit_probability, config.band_limit_hz),
        gain_db=maybe(config.gain_probability, config.gain_db),
        mp3_kbps=maybe(config.mp3_probability, config.mp3_kbps),
    )


def distort(
    waveform: Tensor,
    sample_rate: int,
    distortion: Distortion,
    noise: Tensor | None,
    generator: torch.Generator,
) -> Tensor:
    """Send a waveform through speed, room, noise, band limit, gain and MP3, in nature's order.

    Args:
        waveform: (time,) float32.
        sample_rate: Hz.
        distortion: the draw.
        noise: (samples,) float32 at the same rate, needed where ``snr_db`` is set.
        generator: source of the room's reflections and the noise's position.

    Returns:
        (time / speed,) float32.
    """
    waveform = change_speed(waveform, distortion.speed)
    if distortion.room_seconds is not None:
        waveform = simulate_room(waveform, sample_rate, distortion.room_seconds, generator)
    if distortion.snr_db is not None and noise is not None:
        waveform = add_noise(waveform, noise, distortion.snr_db, generator)
    if distortion.band_limit_hz is not None:
        waveform = band_limit(waveform, sample_rate, distortion.band_limit_hz)
    if distortion.gain_db is not None:
        waveform = waveform * 10 ** (distortion.gain_db / 20)
    if distortion.mp3_kbps is not None:
        waveform = through_mp3(waveform, sample_rate, distortion.mp3_kbps)
    return waveform


def change_speed(waveform: Tensor, factor: float) -> Tensor:
    """Play (time,) faster (factor > 1) or slower by resampling; pitch moves along.

    Reference: Ko et al. 2015, "Audio Augmentation for Speech Recognition".
    """
    if factor == 1.0:
        return waveform
    return resample(waveform, orig_freq=round(100 * factor), new_freq=100)


def simulate_room(
    waveform: Tensor, sample_rate: int, seconds: float, generator: torch.Generator
) -> Tensor:
    """Reverberate (time,) with a direct path and decaying noise of the given RT60; same length.

    Reference: Lebart et al. 2001, "A new method based on spectral subtraction for speech
    dereverberation" (the exponential noise model of a room, after Polack).
    """
    size = max(2, int(seconds * sample_rate))
    decay = torch.exp(-math.log(1000.0) * torch.arange(size) / size)
    response = torch.randn(size, generator=generator) * decay
    # The reverberant tail carries half to a tenth of the direct path's energy.
    share = 0.1 + 0.4 * torch.rand((), generator=generator)
    response *= (share / response.square().sum()).sqrt()
    response[0] = 1.0
    # A product of small primes: four times as fast as a size that happens to be prime.
    size = next_fast_len(len(waveform) + len(response) - 1, real=True)
    spectrum = torch.fft.rfft(waveform, size) * torch.fft.rfft(response, size)
    return torch.fft.irfft(spectrum, size)[: len(waveform)]


def add_noise(waveform: Tensor, noise: Tensor, snr_db: float, generator: torch.Generator) -> Tensor:
    """Add noise from a random position, repeated as needed, at a signal-to-noise ratio.

    Silent speech or silent noise leaves the waveform as it is.
    """
    start = int(torch.randint(len(noise), (), generator=generator))
    repeats = -(-(start + len(waveform)) // len(noise))
    noise = noise.repeat(repeats)[start : start + len(waveform)]
    power, noise_power = waveform.square().mean(), noise.square().mean()
    if power == 0 or noise_power == 0:
        return waveform
    return waveform + noise * (power / noise_power / 10 ** (snr_db / 10)).sqrt()


def band_limit(waveform: Tensor, sample_rate: int, cutoff: float) -> Tensor:
    """Remove everything above ``cutoff`` Hz from (time,), with a tenth of it as a soft edge."""
    spectrum = torch.fft.rfft(waveform)
    frequencies = torch.fft.rfftfreq(len(waveform), 1 / sample_rate)
    edge = ((cutoff * 1.05 - frequencies) / (cutoff * 0.1)).clamp(0, 1)
    return torch.fft.irfft(spectrum * edge, n=len(waveform))


def through_mp3(waveform: Tensor, sample_rate: int, kbps: float) -> Tensor:
    """Encode (time,) as MP3 and decode it again; same length.

    Args:
        waveform: (time,) float32.
        sample_rate: Hz, one of ``MP3_RATES``.
        kbps: bit rate; the encoder takes one near it.
    """
    lowest, highest = (
        (32, 320) if sample_rate >= 32_000 else (8, 160 if sample_rate >= 16_000 else 64)
    )
    level = (highest - kbps) / (highest - lowest)  # as libsndfile counts, which refuses 1
    file = io.BytesIO()
    soundfile.write(
        file,
        waveform.numpy(),
        sample_rate,
        format="MP3",
        compression_level=min(max(level, 0.0), 0.99),
        bitrate_mode="CONSTANT",
    )
    file.seek(0)
    decoded = torch.from_numpy(soundfile.read(file, dtype="float32")[0])
    # Frames of few bits have no room to note the delay, so it is still there.
    delay = min(MP3_DELAY, max(0, len(decoded) - len(waveform)))
    decoded = decoded[delay:][: len(waveform)]
    return torch.nn.functional.pad(decoded, (0, len(waveform) - len(decoded)))


def random_generator(*numbers: int) -> torch.Generator:
    """Return a generator seeded by the numbers together, such as seed, epoch and utterance."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % 2**63
    return torch.Generator().manual_seed(seed)
