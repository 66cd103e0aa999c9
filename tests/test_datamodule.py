"""Batches as the trainer meets them: resumable, capped, the same from any number of workers."""

from types import SimpleNamespace

import pytest
import torch
from tones import ALPHABET, SAMPLE_RATE, write_corpus

from asr.augment import WaveAugmentConfig
from asr.data.datamodule import SpeechDataModule
from asr.data.dataset import SpeechDataset
from asr.errors import ConfigError, ManifestError
from asr.features import FeatureConfig
from asr.letter_to_sound import LetterToSound
from asr.pronunciation import PhoneTokenizer, Pronunciations, read_pronunciations

FEATURES = FeatureConfig(sample_rate=SAMPLE_RATE, n_mels=16, n_fft=256, win_length=200)
AUGMENT = WaveAugmentConfig(gain_probability=1.0)  # and speeds, so that every draw shows


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return {
        "train": [str(write_corpus(folder, "train", 40, seed=1))],
        "val": [str(write_corpus(folder, "val", 12, seed=2))],
    }


def make(corpus, **options):
    settings = {"augment": AUGMENT, "batch_seconds": 8.0, "num_workers": 0} | options
    data = SpeechDataModule(features=FEATURES, alphabet=ALPHABET, **corpus, **settings)
    data.setup("fit")
    return data


def epoch_of(loader, epoch):
    loader.batch_sampler.set_epoch(epoch)
    return list(loader)


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        for one, two in zip(batch, other, strict=True):
            # Sums of floats depend a little on the number of threads.
            torch.testing.assert_close(one, two, rtol=0, atol=1e-4)


def indices(batches):
    return [index for batch in batches for index in batch.indices.tolist()]


@pytest.mark.parametrize("done", [0, 3])
def test_a_resumed_epoch_is_its_rest_and_the_next_ones_are_whole(corpus, done):
    loader = make(corpus).train_dataloader()
    expected = [epoch_of(loader, epoch) for epoch in (1, 2)]

    stopped = make(corpus)
    loader = stopped.train_dataloader()
    loader.batch_sampler.set_epoch(1)
    batches = iter(loader)
    for _ in range(done):
        next(batches)
    state = stopped.state_dict()
    assert state == {"epoch": 1, "consumed": done, "batches": len(expected[0])}

    resumed = make(corpus)
    resumed.load_state_dict(state)  # the order of Lightning: position first, then the loader
    loader = resumed.train_dataloader()
    assert_same(epoch_of(loader, 1), expected[0][done:])
    assert resumed.state_dict() == state | {"consumed": len(expected[0])}
    assert_same(epoch_of(loader, 2), expected[1])


def test_a_position_among_other_batches_is_refused(corpus):
    """Of as many batches of another size, or shared by other processes, it says nothing."""
    state = make(corpus).train_dataloader().state_dict()
    smaller, two = make(corpus, batch_seconds=4.0), make(corpus)
    two.trainer = SimpleNamespace(global_rank=0, world_size=2, num_devices=2)
    for data in smaller, two:
        data.load_state_dict(state)
        with pytest.raises(ConfigError, match=rf"had {state['batches']} batches an epoch, now"):
            data.train_dataloader()


def test_a_position_counts_for_its_own_epoch_and_once(corpus):
    data = make(corpus)
    loader = data.train_dataloader()
    whole, following = epoch_of(loader, 1), epoch_of(loader, 2)
    at_the_end = {"epoch": 1, "consumed": len(whole)}

    data.load_state_dict(at_the_end)
    loader = data.train_dataloader()
    assert epoch_of(loader, 1) == []
    assert_same(epoch_of(loader, 1), whole)

    data.load_state_dict(at_the_end)
    assert_same(epoch_of(data.train_dataloader(), 2), following)


def test_every_epoch_holds_all_utterances_once_and_in_another_order(corpus):
    loader = make(corpus).train_dataloader()
    epochs = [indices(epoch_of(loader, epoch)) for epoch in range(3)]
    for order in epochs:
        assert sorted(order) == list(range(40))
    assert len({tuple(order) for order in epochs}) == 3


def test_batches_keep_their_cap_in_padded_seconds(corpus):
    slow = WaveAugmentConfig(speeds=(0.5, 1.0))
    data = make(corpus, batch_seconds=4.0, augment=slow)
    sizes = set()
    for epoch in range(3):
        for batch in epoch_of(data.train_dataloader(), epoch):
            count, frames, _ = batch.features.shape
            assert count == 1 or count * frames * FEATURES.frame_seconds <= 4.0
            sizes.add(count)
    assert max(sizes) > 1


def test_longer_utterances_are_left_out_aloud(corpus):
    every = make(corpus)
    lengths = sorted(u.duration for u in every.train_set.utterances)
    limit = lengths[-4]
    longer = sum(length > limit for length in lengths)
    with pytest.warns(UserWarning, match=f"{longer} utterances over {limit} s are left out"):
        data = make(corpus, max_seconds=limit)
    assert len(data.train_set) == 40 - longer
    assert len(data.val_set) == 12


@pytest.mark.parametrize("name", ["train", "val"])
def test_no_manifest_and_a_missing_one_say_what_to_do(corpus, tmp_path, name):
    with pytest.raises(ConfigError, match=f"--data.{name}"):
        make(corpus | {name: []})
    with pytest.raises(ManifestError, match=r"none\.jsonl"):
        make(corpus | {name: [str(tmp_path / "none.jsonl")]})


def test_validation_is_never_distorted_and_training_is(corpus):
    data = make(corpus)
    for batches, dataset, distorted in (
        (list(data.val_dataloader()), data.val_set, False),
        (epoch_of(data.train_dataloader(), 1), data.train_set, True),
    ):
        plain = SpeechDataset(dataset.utterances, data.tokenizer, FEATURES)
        assert sorted(indices(batches)) == list(range(len(plain)))
        for batch in batches:
            for row, index in enumerate(batch.indices.tolist()):
                features = batch.features[row, : batch.feature_lengths[row]]
                assert torch.equal(features, plain[index, 0].features) != distorted


# Python 3.12 warns of forks beside threads; the workers touch none of them.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_worker_processes_give_the_same_batches(corpus):
    alone, two = make(corpus), make(corpus, num_workers=2)
    for data in alone, two:
        data.load_state_dict({"epoch": 1, "consumed": 2})
    one_loader, two_loader = alone.train_dataloader(), two.train_dataloader()
    for epoch in (1, 2):
        assert_same(epoch_of(two_loader, epoch), epoch_of(one_loader, epoch))
    two_loader.batch_sampler.set_epoch(3)
    next(iter(two_loader))
    assert two.state_dict()["consumed"] == 1  # what was handed out, not what was read ahead
    assert_same(list(two.val_dataloader()), list(alone.val_dataloader()))


def test_ranks_share_the_utterances(corpus):
    train, val = [], []
    for rank in range(2):
        data = make(corpus)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2)
        train.append(epoch_of(data.train_dataloader(), 1))
        val += indices(data.val_dataloader())
    assert len(train[0]) == len(train[1])
    assert set(indices(train[0] + train[1])) == set(range(40))
    assert sorted(val) == list(range(12))


def test_manifests_are_joined_and_the_cache_changes_nothing(corpus, tmp_path):
    both = {"train": corpus["train"] + corpus["val"], "val": corpus["val"]}
    plain = make(both, augment=WaveAugmentConfig())
    assert len(plain.train_set) == 52
    cached = make(both, augment=WaveAugmentConfig(), cache_dir=str(tmp_path))
    for _ in range(2):  # written, then read
        assert_same(epoch_of(cached.train_dataloader(), 1), epoch_of(plain.train_dataloader(), 1))
    assert list(tmp_path.rglob("*.npy"))


def test_words_without_pronunciation_are_those_of_the_network(corpus, tmp_path):
    torch.manual_seed(0)
    network = LetterToSound("ABCD", ("AA", "BB"), 8, 1).eval()
    path = tmp_path / "sounds.safetensors"
    Pronunciations({"A": ("AA",)}, ("AA", "BB"), network).save(path)
    dictionary = read_pronunciations(path)
    data = make(corpus, pronunciations=str(path))
    assert data.phones == ("AA", "BB")
    [batch, *_] = data.val_dataloader()
    utterances = data.val_set.utterances
    for index, phones, length in zip(
        batch.indices.tolist(), batch.phones, batch.phone_lengths, strict=True
    ):
        text = utterances[index].text
        ways = dictionary.covering(text.split()).first(text)
        assert PhoneTokenizer(data.phones).encode_words(ways) == phones[:length].tolist()


def test_copies_want_a_cache():
    with pytest.raises(ConfigError, match="augment_copies is set but cache_dir is not"):
        SpeechDataModule(augment_copies=4)


def test_fewer_than_no_processes_are_refused():
    with pytest.raises(ConfigError, match="num_workers -1 is no number of processes"):
        SpeechDataModule(num_workers=-1)
