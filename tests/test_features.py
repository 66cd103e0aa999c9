"""The front ends against librosa, and their invariance to padding and batch-mates."""

import dataclasses
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr.errors import ConfigError
from asr.features import FeatureConfig, FeatureExtractor, LogMel, Mfcc, Normalisation, length_mask

GRID = [
    FeatureConfig(),
    FeatureConfig(f_min=0.0, n_mels=64, win_length=512),
    FeatureConfig(n_fft=1024, win_length=800, hop_length=200, n_mels=40, f_max=7600.0),
    FeatureConfig(sample_rate=8000, n_fft=256, win_length=200, hop_length=80, n_mels=23),
    FeatureConfig(
        sample_rate=8000, n_fft=400, win_length=400, hop_length=100, n_mels=40, f_min=60.0
    ),
    FeatureConfig(sample_rate=22_050, n_fft=1024, win_length=551, hop_length=220, n_mels=80),
    FeatureConfig(
        sample_rate=22_050,
        n_fft=512,
        win_length=512,
        hop_length=256,
        n_mels=26,
        f_min=133.0,
        f_max=6855.0,
    ),
]
over_the_grid = pytest.mark.parametrize(
    "config", GRID, ids=lambda c: f"{c.sample_rate}-{c.n_fft}-{c.hop_length}-{c.n_mels}"
)


def make_waveform(samples: int, sample_rate: int = 16_000) -> np.ndarray:
    """Return (time,) float32: a chirp in noise, so that every band has something to measure."""
    rng = np.random.default_rng(samples)
    time = np.arange(samples) / sample_rate
    chirp = 0.3 * np.sin(2 * np.pi * (100 * time + 1000 * time**2))
    return (chirp + 0.02 * rng.standard_normal(samples)).astype(np.float32)


def librosa_log_mel(waveform: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """Return (frames, n_mels) by librosa."""
    power = librosa.feature.melspectrogram(
        y=waveform.astype(np.float64),
        sr=config.sample_rate,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=config.win_length,
        window="hann",
        center=True,
        pad_mode="constant",
        power=2.0,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
        htk=True,
        norm=None,
    )
    return np.log(np.maximum(power, config.log_floor)).T


def extract(
    waveforms: np.ndarray | Tensor, config: FeatureConfig, lengths: list[int] | None = None
) -> tuple[Tensor, Tensor]:
    waveforms = torch.atleast_2d(torch.as_tensor(waveforms))
    lengths = lengths or [waveforms.shape[1]] * len(waveforms)
    return FeatureExtractor(config)(waveforms, torch.tensor(lengths))


@over_the_grid
def test_log_mel_is_librosas(config: FeatureConfig) -> None:
    waveform = make_waveform(config.sample_rate, config.sample_rate)
    expected = librosa_log_mel(waveform, config)
    actual = LogMel(config)(torch.from_numpy(waveform)[None])[0]
    assert actual.shape == (config.num_frames(len(waveform)), config.n_mels)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)


@over_the_grid
@pytest.mark.parametrize("n_mfcc", [13, 20])
def test_mfcc_is_librosas(config: FeatureConfig, n_mfcc: int) -> None:
    config = dataclasses.replace(config, kind="mfcc", n_mfcc=n_mfcc)
    waveform = make_waveform(config.sample_rate, config.sample_rate)
    log_mel = librosa_log_mel(waveform, config)
    expected = librosa.feature.mfcc(S=log_mel.T, n_mfcc=n_mfcc, dct_type=2, norm="ortho").T
    actual = Mfcc(config)(torch.from_numpy(waveform)[None])[0]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("samples", [1, 100, 399, 500, 1600, 16_000])
@pytest.mark.parametrize("kind", ["log_mel", "mfcc"])
def test_deltas_are_librosas(kind: Any, samples: int) -> None:
    """Of order 2: the deltas of the deltas, as in HTK and Kaldi, over five frames each."""
    plain = FeatureConfig(kind=kind, n_mels=30, n_mfcc=13)
    waveform = make_waveform(samples)
    static = extract(waveform, plain)[0][0].double().numpy()
    first = librosa.feature.delta(static, width=5, order=1, axis=0, mode="nearest")
    second = librosa.feature.delta(first, width=5, order=1, axis=0, mode="nearest")
    for deltas, expected in ((1, [static, first]), (2, [static, first, second])):
        config = dataclasses.replace(plain, deltas=deltas)
        actual = extract(waveform, config)[0][0]
        assert actual.shape[1] == config.n_features
        np.testing.assert_allclose(actual, np.concatenate(expected, axis=1), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:n_fft=512 is too large:UserWarning")  # librosa's
@pytest.mark.parametrize("samples", [1, 2, 79, 159, 160, 161, 399, 511, 512])
def test_waveforms_shorter_than_the_window(samples: int) -> None:
    waveform = make_waveform(samples)
    features, [frames] = extract(waveform, FeatureConfig())
    assert features.shape == (1, frames, 80)
    np.testing.assert_allclose(
        features[0], librosa_log_mel(waveform, FeatureConfig()), rtol=1e-4, atol=1e-3
    )


def test_silence_is_the_floor() -> None:
    features, _ = extract(torch.zeros(1, 4000), FeatureConfig(log_floor=1e-6))
    torch.testing.assert_close(features, torch.full_like(features, np.log(1e-6)))


def test_a_tone_is_in_its_band() -> None:
    config = FeatureConfig()
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)
    loudest = extract(tone, config)[0][0, 10:-10].argmax(dim=1)
    edges = librosa.mel_frequencies(n_mels=82, fmin=20.0, fmax=8000.0, htk=True)
    assert set(loudest.tolist()) == {int(np.abs(edges[1:-1] - 1000).argmin())}


@settings(deadline=None)
@given(samples=st.integers(1, 5000), hop_length=st.sampled_from([80, 160, 250]))
def test_the_number_of_frames(samples: int, hop_length: int) -> None:
    config = FeatureConfig(n_mels=20, hop_length=hop_length)
    features, lengths = extract(torch.zeros(1, samples), config)
    assert lengths.tolist() == [features.shape[1]] == [config.num_frames(samples)]
    assert lengths.dtype == torch.int64


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["log_mel", "mfcc"]),
    deltas=st.sampled_from([0, 1, 2]),
    normalisation=st.sampled_from(["utterance", "global", "none"]),
    sizes=st.lists(st.integers(1, 4000), min_size=1, max_size=4),
    padding=st.integers(0, 1500),
    garbage=st.sampled_from([0.0, 7.0, torch.inf, torch.nan]),
)
@example(  # two frames nearly alike
    kind="mfcc", deltas=0, normalisation="utterance", sizes=[1, 319], padding=0, garbage=0.0
)
def test_batch_mates_and_padding_change_nothing(
    kind: Any, deltas: Any, normalisation: Any, sizes: list[int], padding: int, garbage: float
) -> None:
    config = FeatureConfig(
        kind=kind, n_mels=24, n_mfcc=12, deltas=deltas, normalisation=normalisation
    )
    extractor, normalise = FeatureExtractor(config), Normalisation(config)
    normalise.set_statistics(torch.full((config.n_features,), 3.0), torch.tensor(2.0))
    waveforms = torch.full((len(sizes), max(sizes) + padding), garbage)
    for waveform, size in zip(waveforms, sizes, strict=True):
        waveform[:size] = torch.from_numpy(make_waveform(size))
    features, frames = extractor(waveforms, torch.tensor(sizes))
    features = normalise(features, frames)
    for i, size in enumerate(sizes):
        alone, [n] = extractor(waveforms[i : i + 1, :size], torch.tensor([size]))
        alone = normalise(alone, torch.tensor([n]))
        assert frames[i] == n == alone.shape[1]
        torch.testing.assert_close(features[i, :n], alone[0], rtol=1e-4, atol=1e-4)
        assert (features[i, n:] == 0).all()


def test_utterance_normalisation_counts_valid_frames_only() -> None:
    torch.manual_seed(0)
    features = 5 + 3 * torch.randn(2, 40, 6)
    lengths = torch.tensor([40, 17])
    normalised = Normalisation(FeatureConfig(n_mels=6))(features, lengths)
    for item, before, n in zip(normalised, features, lengths, strict=True):
        expected = (before[:n] - before[:n].mean(dim=0)) / before[:n].std(dim=0, correction=0)
        torch.testing.assert_close(item[:n], expected, rtol=1e-4, atol=1e-4)
        assert (item[n:] == 0).all()


@pytest.mark.parametrize("frames", [1, 50])
def test_constant_features_become_zero(frames: int) -> None:
    normalised = Normalisation(FeatureConfig(n_mels=6))(
        torch.full((1, frames, 6), -18.4), torch.tensor([frames])
    )
    torch.testing.assert_close(normalised, torch.zeros(1, frames, 6), rtol=0, atol=1e-2)


def test_global_normalisation_uses_the_stored_statistics() -> None:
    normalise = Normalisation(FeatureConfig(n_mels=2, normalisation="global"))
    features, lengths = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([1])
    torch.testing.assert_close(normalise(features, torch.tensor([2])), features)
    normalise.set_statistics(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 0.5]))
    expected = torch.tensor([[[0.0, -4.0], [0.0, 0.0]]])
    torch.testing.assert_close(normalise(features, lengths), expected)

    again = Normalisation(FeatureConfig(n_mels=2, normalisation="global"))
    again.load_state_dict(normalise.state_dict())
    torch.testing.assert_close(again(features, lengths), expected)


def test_without_normalisation_only_the_padding_goes() -> None:
    features = torch.randn(1, 4, 3)
    actual = Normalisation(FeatureConfig(n_mels=3, normalisation="none"))(
        features, torch.tensor([3])
    )
    assert torch.equal(actual[:, :3], features[:, :3]) and (actual[:, 3:] == 0).all()


@pytest.mark.parametrize("kind", ["log_mel", "mfcc"])
def test_the_front_end_has_no_state(kind: Any) -> None:
    assert FeatureExtractor(FeatureConfig(kind=kind)).state_dict() == {}


def test_length_mask() -> None:
    assert length_mask(torch.tensor([0, 2]), 3).tolist() == [[False] * 3, [True, True, False]]
    with pytest.raises(ValueError, match="4 exceeds the 3 padded"):
        length_mask(torch.tensor([4]), 3)


def test_frame_seconds() -> None:
    assert FeatureConfig(sample_rate=8000, hop_length=100).frame_seconds == 0.0125


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"win_length": 513}, "win_length 513 exceeds n_fft 512"),
        ({"n_fft": 511}, "n_fft 511 is odd"),
        ({"hop_length": -160}, r"hop_length -160 is not in 1\.\."),
        ({"n_mels": 10**9}, r"n_mels 10+ is not in 1\.\."),
        ({"log_floor": 0.0}, "log_floor 0.0 is not above 0"),
        ({"f_max": 8001.0}, "f_max 8001.0 Hz exceeds half of 16000 Hz"),
        ({"kind": "mfcc", "n_mfcc": 81}, "n_mfcc 81 exceeds n_mels 80"),
    ],
)
def test_contradictory_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FeatureConfig(**changes)
