"""Augmentation: what each distortion does to a signal that makes it measurable."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import noise, tone
from torch import Tensor

from asr.augment import (
    Distortion,
    SpecAugmentConfig,
    WaveAugmentConfig,
    add_noise,
    band_limit,
    change_speed,
    distort,
    draw_distortion,
    random_generator,
    simulate_room,
    spec_augment,
    through_mp3,
)
from asr.errors import ConfigError

RATE = 16_000
EVERYTHING = WaveAugmentConfig(
    band_limit_probability=0.3,
    room_probability=0.5,
    noise_probability=0.7,
    noise_dir="noise",
    gain_probability=0.2,
    mp3_probability=0.4,
)
OPTIONS = {  # field of the draw: its probability, its range
    "room_seconds": ("room_probability", "room_seconds"),
    "snr_db": ("noise_probability", "snr_db"),
    "band_limit_hz": ("band_limit_probability", "band_limit_hz"),
    "gain_db": ("gain_probability", "gain_db"),
    "mp3_kbps": ("mp3_probability", "mp3_kbps"),
}


def sine(frequency: float, seconds: float = 1.0) -> Tensor:
    return torch.from_numpy(tone(frequency, seconds, RATE))


def white(seconds: float = 1.0, seed: int = 0) -> Tensor:
    return torch.from_numpy(noise(seconds, RATE, seed=seed))


def pitch(waveform: Tensor) -> float:
    """Return the strongest frequency, Hz."""
    spectrum = torch.fft.rfft(waveform).abs()
    return spectrum.argmax().item() * RATE / len(waveform)


def decibels(power: Tensor, reference: Tensor) -> float:
    return 10 * math.log10(power.square().sum() / reference.square().sum())


def runs(mask: Tensor) -> list[int]:
    """Return the lengths of the stretches of a (steps,) mask that are true."""
    edges = torch.diff(mask.int(), prepend=torch.zeros(1), append=torch.zeros(1))
    starts, ends = (edges == 1).nonzero(), (edges == -1).nonzero()
    return (ends - starts).flatten().tolist()


# SpecAugment


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 120), min_size=1, max_size=4),
    padding=st.integers(0, 30),
    n_features=st.integers(1, 30),
    seed=st.integers(0, 999),
)
def test_masks_stay_within_their_widths(
    lengths: list[int], padding: int, n_features: int, seed: int
) -> None:
    config = SpecAugmentConfig(
        frequency_masks=1, frequency_width=9, time_masks=1, time_fraction=0.25
    )
    torch.manual_seed(seed)
    features = torch.ones(len(lengths), max(lengths) + padding, n_features)
    masked = spec_augment(features, torch.tensor(lengths), config)
    assert masked.shape == features.shape and (features == 1).all()
    assert ((masked == 0) | (masked == 1)).all()
    for item, length in zip(masked == 0, lengths, strict=True):
        band, stretch = item.all(dim=0), item.all(dim=1)
        assert torch.equal(item, band | stretch[:, None])  # nothing but a band and a stretch
        if not band.all():
            assert sum(runs(stretch)) <= 0.25 * length
            assert not stretch[length:].any()
        if not stretch.all():
            assert sum(runs(band)) <= 9


def test_masks_come_in_every_width_and_place() -> None:
    torch.manual_seed(0)
    config = SpecAugmentConfig(
        frequency_masks=1, frequency_width=3, time_masks=1, time_fraction=0.2
    )
    masked = spec_augment(torch.ones(2000, 10, 10), torch.full((2000,), 10), config) == 0
    bands, stretches = masked.all(dim=1), masked.all(dim=2)
    widths = bands.sum(dim=1).bincount()
    assert len(widths) == 4 and (widths > 400).all()  # 0 to 3, about 500 each
    lengths = stretches.sum(dim=1).bincount()
    assert len(lengths) == 3 and (lengths > 550).all()  # 0 to 2
    assert bands.any(dim=0).all() and stretches.any(dim=0).all()


def test_utterances_are_masked_differently_and_the_seed_decides() -> None:
    features, lengths = torch.ones(8, 200, 80), torch.full((8,), 200)
    torch.manual_seed(1)
    first = spec_augment(features, lengths, SpecAugmentConfig())
    other = spec_augment(features, lengths, SpecAugmentConfig())
    torch.manual_seed(1)
    again = spec_augment(features, lengths, SpecAugmentConfig())
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len({item.numpy().tobytes() for item in first}) == 8


def test_without_masks_features_stay() -> None:
    features = torch.randn(2, 50, 20)
    none = SpecAugmentConfig(frequency_masks=0, time_masks=0)
    assert torch.equal(spec_augment(features, torch.tensor([50, 30]), none), features)


# Speed


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 1.25])
def test_speed_shortens_time_and_raises_pitch(factor: float) -> None:
    faster = change_speed(sine(1000, seconds=2), factor)
    assert len(faster) == pytest.approx(2 * RATE / factor, abs=1)
    assert pitch(faster) == pytest.approx(1000 * factor, rel=1e-3)
    assert faster[500:-500].abs().max() == pytest.approx(0.5, rel=0.01)


def test_speed_one_changes_nothing() -> None:
    assert torch.equal(change_speed(sine(300), 1.0), sine(300))


# Room


@pytest.mark.parametrize("seconds", [0.1, 0.6])
def test_a_room_answers_an_impulse_with_itself_and_a_decaying_tail(seconds: float) -> None:
    impulse = torch.zeros(RATE)
    impulse[1000] = 1.0
    heard = simulate_room(impulse, RATE, seconds, random_generator(5))
    assert len(heard) == RATE
    assert heard[:1000].abs().max() < 1e-5
    assert heard[1000] == pytest.approx(1.0, abs=1e-4)
    tail = heard[1001:]
    assert 0.1 * 0.95 < tail.square().sum() < 0.5
    # From one tenth of the reverberation time to the next, energy falls by 60 dB / 10.
    tenth = int(seconds * RATE / 10)
    fall = decibels(tail[2 * tenth : 3 * tenth], tail[7 * tenth : 8 * tenth])
    assert fall == pytest.approx(30, abs=2.5)
    assert tail[10 * tenth + 10 :].abs().max() < 1e-4


@pytest.mark.parametrize("samples", [1, 100])
def test_a_room_keeps_the_length_of_anything(samples: int) -> None:
    heard = simulate_room(torch.ones(samples), RATE, 0.3, random_generator(0))
    assert heard.shape == (samples,)
    assert heard[0] == pytest.approx(1.0, abs=1e-4)


# Noise


@settings(max_examples=30, deadline=None)
@given(
    snr_db=st.floats(-10, 40),
    noise_seconds=st.sampled_from([0.1, 0.73, 1.0, 3.0]),
    seed=st.integers(0, 99),
)
def test_noise_has_the_ratio_asked_for(snr_db: float, noise_seconds: float, seed: int) -> None:
    speech = sine(300)
    noisy = add_noise(speech, white(noise_seconds), snr_db, random_generator(seed))
    assert noisy.shape == speech.shape
    assert decibels(speech, noisy - speech) == pytest.approx(snr_db, abs=0.05)


def test_noise_starts_anywhere_and_repeats() -> None:
    ramp = torch.arange(1.0, 101.0)
    starts = set()
    for seed in range(50):
        added = add_noise(torch.ones(250), ramp, 0.0, random_generator(seed)) - 1
        position = (added / added.max() * 100).round()
        assert ((position[1:] - position[:-1]) % 100 == 1).all()
        starts.add(position[0].item())
    assert len(starts) > 25


def test_silence_gets_no_noise() -> None:
    silence, speech = torch.zeros(100), sine(300)
    assert torch.equal(add_noise(silence, white(), 10, random_generator(0)), silence)
    assert torch.equal(add_noise(speech, torch.zeros(50), 10, random_generator(0)), speech)


# Band limit


@pytest.mark.parametrize("cutoff", [1000.0, 3400.0, 7000.0])
@pytest.mark.parametrize("samples", [16_000, 12_345])
def test_a_band_limit_removes_what_is_above_and_nothing_below(cutoff: float, samples: int) -> None:
    original = white()[:samples]
    limited = band_limit(original, RATE, cutoff)
    assert limited.shape == original.shape
    frequencies = torch.fft.rfftfreq(samples, 1 / RATE)
    before, after = torch.fft.rfft(original), torch.fft.rfft(limited)
    below, above = frequencies < 0.949 * cutoff, frequencies > 1.051 * cutoff
    torch.testing.assert_close(after[below], before[below], rtol=1e-4, atol=1e-4)
    assert after[above].abs().max() < 1e-4
    at = (frequencies - cutoff).abs().argmin()
    assert (after[at] / before[at]).abs() == pytest.approx(0.5, abs=0.01)


def test_a_band_limit_beyond_half_the_rate_changes_nothing() -> None:
    torch.testing.assert_close(band_limit(white(), RATE, 9000.0), white(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_a_band_limit_bears_the_shortest_waveforms(samples: int) -> None:
    limited = band_limit(torch.ones(samples), RATE, 3000.0)
    torch.testing.assert_close(limited, torch.ones(samples))


# MP3


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("kbps", [16.0, 48.0])
def test_mp3_keeps_length_place_and_most_of_the_sound(rate: int, kbps: float) -> None:
    speech = torch.from_numpy(tone(300, 1.0, rate)) * torch.linspace(0, 1, rate)
    heard = through_mp3(speech, rate, kbps)
    assert heard.shape == speech.shape and not torch.equal(heard, speech)
    size = 2 * rate  # no place fits better than the one it has
    spectra = torch.fft.rfft(speech, size).conj() * torch.fft.rfft(heard, size)
    assert torch.fft.irfft(spectra, size).argmax() == 0
    assert decibels(heard - speech, speech) < -10


def test_mp3_of_few_bits_has_no_treble() -> None:
    spectra = [
        torch.fft.rfft(through_mp3(white(), RATE, kbps)).abs()[7_000:] for kbps in (16.0, 160.0)
    ]
    assert decibels(*spectra) < -30


@pytest.mark.parametrize("samples", [1, 2, 1151])
def test_mp3_bears_the_shortest_waveforms(samples: int) -> None:
    assert through_mp3(torch.ones(samples), RATE, 32.0).shape == (samples,)


# All together


def test_gain() -> None:
    louder = distort(sine(300), RATE, Distortion(gain_db=-20.0), None, random_generator(0))
    torch.testing.assert_close(louder, 0.1 * sine(300))


def test_no_distortion_changes_nothing() -> None:
    plain = Distortion()
    assert plain.only_speed and Distortion(speed=0.9).only_speed
    assert torch.equal(distort(sine(300), RATE, plain, None, random_generator(0)), sine(300))


@pytest.mark.parametrize("step", OPTIONS)
def test_every_other_step_is_more_than_speed(step: str) -> None:
    assert not Distortion(**{step: 1.0}).only_speed


def test_the_steps_follow_each_other_as_in_nature() -> None:
    """Noise is added after the room and is itself not reverberated; both pass the telephone."""
    distortion = Distortion(
        speed=1.1, room_seconds=0.3, snr_db=10.0, band_limit_hz=3000.0, gain_db=6.0, mp3_kbps=32.0
    )
    actual = distort(sine(300), RATE, distortion, white(), random_generator(3))
    generator = random_generator(3)
    expected = change_speed(sine(300), 1.1)
    expected = simulate_room(expected, RATE, 0.3, generator)
    expected = add_noise(expected, white(), 10.0, generator)
    expected = through_mp3(band_limit(expected, RATE, 3000.0) * 10**0.3, RATE, 32.0)
    torch.testing.assert_close(actual, expected)
    assert len(actual) == pytest.approx(RATE / 1.1, abs=1)


def test_the_same_generator_gives_the_same_result() -> None:
    distortion = Distortion(speed=0.9, room_seconds=0.2, snr_db=5.0)

    def run(*numbers: int) -> Tensor:
        return distort(sine(300), RATE, distortion, white(2.0), random_generator(*numbers))

    assert torch.equal(run(1, 2, 3), run(1, 2, 3))
    assert not torch.equal(run(1, 2, 3), run(1, 2, 4))


def test_generators_of_different_numbers_differ() -> None:
    """Numbers are told apart by place, so that no epoch repeats another utterance's draws."""
    seeds = {
        random_generator(*numbers).initial_seed()
        for numbers in [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (1, 2, 3), (3, 2, 1), (2**62, 7)]
    }
    assert len(seeds) == 9


# Draws


def draw(config: WaveAugmentConfig, count: int = 4000) -> list[Distortion]:
    generator = random_generator(0)
    return [draw_distortion(config, generator) for _ in range(count)]


@pytest.mark.parametrize("field", OPTIONS)
def test_steps_are_drawn_as_often_and_strongly_as_asked(field: str) -> None:
    probability, bounds = (getattr(EVERYTHING, name) for name in OPTIONS[field])
    values = [v for d in draw(EVERYTHING) if (v := getattr(d, field)) is not None]
    assert len(values) / 4000 == pytest.approx(probability, abs=0.03)
    low, high = bounds
    width = high - low
    assert low <= min(values) < low + 0.02 * width and high - 0.02 * width < max(values) <= high
    assert sum(values) / len(values) == pytest.approx((low + high) / 2, abs=0.05 * width)


def test_speeds_are_drawn_alike() -> None:
    speeds = [d.speed for d in draw(EVERYTHING)]
    assert set(speeds) == {0.9, 1.0, 1.1}
    assert all(speeds.count(s) / 4000 == pytest.approx(1 / 3, abs=0.03) for s in set(speeds))


def test_by_default_only_the_speed_is_drawn() -> None:
    assert all(d.only_speed for d in draw(WaveAugmentConfig(), count=200))


def test_one_step_does_not_move_the_draws_of_another() -> None:
    """Switching noise off leaves speeds, rooms and gains as they were."""
    quiet = dataclasses.replace(EVERYTHING, noise_probability=0.0, noise_dir=None)
    for loud, still in zip(draw(EVERYTHING, 200), draw(quiet, 200), strict=True):
        assert dataclasses.replace(loud, snr_db=None) == still


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speeds": ()}, "at least one factor"),
        ({"speeds": (1.0, 0.0)}, "above 0"),
        ({"speeds": (0.9, 0.975)}, "speeds: 0.975 is no whole percent"),
        ({"noise_probability": 0.5}, "noise_dir is not"),
        ({"mp3_probability": 1.5}, r"mp3_probability 1\.5 is not in 0\.\.1"),
        ({"gain_probability": -0.1}, r"gain_probability -0\.1 is not in 0\.\.1"),
        ({"noise_dir": "noise"}, "noise_probability is 0"),
    ],
)
def test_contradictory_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WaveAugmentConfig(**settings)
