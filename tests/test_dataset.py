import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tones import ALPHABET, SAMPLE_RATE, write_corpus

from asr.augment import WaveAugmentConfig
from asr.data.cache import FeatureCache
from asr.data.dataset import SpeechDataset, collate, feature_statistics, load_noise
from asr.data.manifest import read_manifest
from asr.errors import AsrWarning, AudioError, ConfigError, TextError
from asr.features import FeatureConfig
from asr.text import CharTokenizer

FEATURES = FeatureConfig(sample_rate=SAMPLE_RATE, n_mels=16, n_fft=256, win_length=200)


@pytest.fixture
def utterances(tmp_path):
    return read_manifest(write_corpus(tmp_path, "train", 6))


def make_dataset(utterances, **options):
    return SpeechDataset(utterances, CharTokenizer(ALPHABET), FEATURES, **options)


def noisy(tmp_path, **options):
    return WaveAugmentConfig(
        speeds=(1.0,), noise_probability=1.0, noise_dir=str(tmp_path / "noise"), **options
    )


def write_noise(tmp_path, seed):
    (tmp_path / "noise").mkdir(exist_ok=True)
    noise = np.random.default_rng(seed).standard_normal(4000).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "noise" / "hiss.wav", noise, SAMPLE_RATE)


def test_examples_have_the_frames_and_targets_of_their_utterance(utterances):
    dataset = make_dataset(utterances)
    for index, utterance in enumerate(utterances):
        example = dataset[index, 0]
        samples = soundfile.info(utterance.audio).frames
        assert example.features.shape == (FEATURES.num_frames(samples), 16)
        assert dataset.tokenizer.decode(example.targets.tolist()) == utterance.text


def test_distortion_depends_on_seed_epoch_and_index_alone(utterances):
    augment = WaveAugmentConfig(gain_probability=1.0, band_limit_probability=0.5)
    one, same = make_dataset(utterances, augment=augment), make_dataset(utterances, augment=augment)
    one[3, 0], one[1, 1]  # earlier draws must not matter
    torch.manual_seed(77)
    assert torch.equal(one[2, 1].features, same[2, 1].features)
    assert not torch.equal(one[2, 1].features, one[2, 2].features)
    twice = make_dataset([utterances[0]] * 2, augment=augment)
    assert not torch.equal(twice[0, 1].features, twice[1, 1].features)
    other = make_dataset(utterances, augment=augment, seed=1)
    assert not torch.equal(other[2, 1].features, one[2, 1].features)


def test_recordings_of_another_rate_are_resampled(utterances, tmp_path):
    samples, _ = soundfile.read(utterances[0].audio)
    soundfile.write(tmp_path / "fast.wav", np.repeat(samples, 2), 2 * SAMPLE_RATE)
    example = make_dataset([replace(utterances[0], audio=tmp_path / "fast.wav")])[0, 0]
    assert abs(len(example.features) - FEATURES.num_frames(len(samples))) <= 1


def test_statistics_are_those_of_all_frames(utterances, tmp_path):
    write_noise(tmp_path, 0)
    dataset = make_dataset(utterances)
    frames = torch.cat([dataset[index, 0].features for index in range(len(utterances))])
    mean, deviation = feature_statistics(make_dataset(utterances, augment=noisy(tmp_path)))
    torch.testing.assert_close(mean, frames.mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(deviation, frames.std(0, correction=0), rtol=1e-3, atol=1e-3)


def test_noise_comes_from_the_folder(utterances, tmp_path):
    write_noise(tmp_path, 0)
    clean = make_dataset(utterances)
    loud = make_dataset(utterances, augment=noisy(tmp_path, snr_db=(0, 0)))
    assert (loud[0, 0].features - clean[0, 0].features).mean() > 1


def test_an_empty_noise_folder_is_an_error(utterances, tmp_path):
    augment = WaveAugmentConfig(noise_probability=1.0, noise_dir=str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="nothing"):
        make_dataset(utterances, augment=augment)


def test_a_sample_rate_that_mp3_does_not_have_is_an_error(utterances):
    features = FeatureConfig(sample_rate=10_000, n_mels=16, n_fft=256, win_length=200)
    augment = WaveAugmentConfig(mp3_probability=0.1)
    with pytest.raises(ConfigError, match="no sample rate of 10000"):
        SpeechDataset(utterances, CharTokenizer(ALPHABET), features, augment)


def test_cached_features_equal_computed_ones(utterances, tmp_path):
    cached = make_dataset(utterances, cache=FeatureCache(tmp_path / "cache", FEATURES))
    fresh = make_dataset(utterances)[0, 0].features
    assert torch.equal(cached[0, 0].features, fresh)  # writes
    assert torch.equal(cached[0, 0].features, fresh)  # reads
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 1


def test_cache_sees_a_changed_recording_a_changed_setting_and_damage(utterances, tmp_path):
    cache = FeatureCache(tmp_path / "cache", FEATURES)
    dataset = make_dataset(utterances, cache=cache)
    before = dataset[0, 0].features
    entry = cache.path(utterances[0].audio, 1.0)
    entry.write_bytes(entry.read_bytes()[:50])
    assert torch.equal(dataset[0, 0].features, before)

    soundfile.write(utterances[0].audio, np.zeros(4000, dtype=np.float32), SAMPLE_RATE)
    assert dataset[0, 0].features.shape != before.shape

    other = FeatureCache(tmp_path / "cache", FeatureConfig(sample_rate=SAMPLE_RATE, n_mels=20))
    assert other.folder != cache.folder


def test_cache_knows_a_recording_wherever_and_whenever_it_was_copied(utterances, tmp_path):
    cache = FeatureCache(tmp_path / "cache", FEATURES)
    copy = tmp_path / "copy.wav"
    copy.write_bytes(utterances[0].audio.read_bytes())
    os.utime(copy, (0, 0))
    assert cache.path(copy, 1.0) == cache.path(utterances[0].audio, 1.0)
    assert cache.path(copy, 1.0) != cache.path(utterances[1].audio, 1.0)
    copy.unlink()
    with pytest.raises(AudioError, match=r"copy\.wav: cannot be read: no such file"):
        cache.path(copy, 1.0)


def test_a_full_disk_is_told_once_and_leaves_nothing_behind(utterances, tmp_path, monkeypatch):
    def write_bytes(path, content):
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cached = make_dataset(utterances, cache=FeatureCache(tmp_path / "cache", FEATURES))
    fresh = make_dataset(utterances)
    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.warns(AsrWarning, match="features cannot be stored.*No space left") as told:
        for index in range(2):
            assert torch.equal(cached[index, 0].features, fresh[index, 0].features)
    assert len(told) == 1
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_folder_of_the_cache_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file: cannot hold a cache of features: Not a dir"):
        FeatureCache(tmp_path / "file", FEATURES)


def test_cache_keeps_speeds_apart(utterances, tmp_path):
    cache = FeatureCache(tmp_path / "cache", FEATURES)
    augment = WaveAugmentConfig(speeds=(0.5, 1.0, 2.0))
    cached = make_dataset(utterances, augment=augment, cache=cache)
    fresh = make_dataset(utterances, augment=augment)
    for epoch in range(8):
        assert torch.equal(cached[0, epoch].features, fresh[0, epoch].features)
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 3


def test_copies_are_taken_in_turn_and_computed_once(utterances, tmp_path, monkeypatch):
    write_noise(tmp_path, 0)
    cache = FeatureCache(tmp_path / "cache", FEATURES)
    cached = make_dataset(utterances, augment=noisy(tmp_path), cache=cache, copies=3)
    fresh = make_dataset(utterances, augment=noisy(tmp_path))
    for epoch in range(3):
        assert torch.equal(cached[0, epoch].features, fresh[0, epoch].features)
    assert not torch.equal(cached[0, 0].features, cached[0, 1].features)
    assert not torch.equal(cached[0, 0].features, cached[1, 0].features)
    monkeypatch.setattr(SpeechDataset, "_compute", None)
    for epoch in range(3):
        assert torch.equal(cached[0, epoch + 3].features, cached[0, epoch].features)


def test_copies_of_other_settings_or_other_noise_are_not_mistaken(utterances, tmp_path):
    def first(augment, seed=0):
        cache = FeatureCache(tmp_path / "cache", FEATURES)
        options = {"augment": augment, "seed": seed}
        cached = make_dataset(utterances, cache=cache, copies=1, **options)[0, 0].features
        load_noise.cache_clear()
        assert torch.equal(cached, make_dataset(utterances, **options)[0, 0].features)
        return cached

    write_noise(tmp_path, 0)
    one, louder = first(noisy(tmp_path)), first(noisy(tmp_path, snr_db=(0, 0)))
    other = first(noisy(tmp_path), seed=1)
    write_noise(tmp_path, 1)
    load_noise.cache_clear()
    another = first(noisy(tmp_path))
    assert not any(torch.equal(one, features) for features in (louder, other, another))


def test_collate_pads_with_zeros_and_keeps_lengths(utterances):
    dataset = make_dataset(utterances)
    examples = [dataset[index, 0] for index in range(4)]
    batch = collate(examples)
    longest = max(len(example.features) for example in examples)
    assert batch.features.shape[1] % 64 == 0 and 0 <= batch.features.shape[1] - longest < 64
    for row, example in enumerate(examples):
        frames, length = len(example.features), len(example.targets)
        assert (batch.feature_lengths[row], batch.target_lengths[row]) == (frames, length)
        assert torch.equal(batch.features[row, :frames], example.features)
        assert not batch.features[row, frames:].any()
        assert torch.equal(batch.targets[row, :length], example.targets)


def test_bad_audio_and_unknown_characters_are_named(utterances):
    dataset = make_dataset(utterances)
    utterances[0].audio.unlink()
    with pytest.raises(AudioError, match=utterances[0].audio.name):
        dataset[0, 0]
    dataset.tokenizer = CharTokenizer("XYZ")
    with pytest.raises(TextError, match="alphabet"):
        dataset[1, 0]
