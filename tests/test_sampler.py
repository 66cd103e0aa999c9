import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.data.sampler import DurationBatchSampler

durations_lists = st.lists(st.floats(0.5, 30.0), min_size=1, max_size=200)


def epochs(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


@given(durations_lists, st.integers(0, 3), st.booleans(), st.integers(1, 3))
def test_every_utterance_comes_and_batches_keep_their_cap(durations, epoch, shuffle, world_size):
    seen = []
    lengths = set()
    for rank in range(world_size):
        sampler = DurationBatchSampler(
            durations, 40.0, shuffle=shuffle, rank=rank, world_size=world_size, num_buckets=5
        )
        batches = epochs(sampler, epoch)
        assert len(batches) == len(sampler)
        lengths.add(len(batches))
        for batch in batches:
            assert all(e == epoch for _, e in batch)
            seconds = [durations[index] for index, _ in batch]
            assert len(batch) == 1 or max(seconds) * len(batch) <= 40.0
            seen += [index for index, _ in batch]
    assert set(seen) == set(range(len(durations)))
    if shuffle:
        assert len(lengths) == 1  # ranks stay in step
    else:
        assert len(seen) == len(durations)  # validation counts each utterance once


def test_first_epoch_runs_from_short_to_long_and_later_ones_do_not():
    durations = [float(1 + i % 20) for i in range(200)]
    sampler = DurationBatchSampler(durations, 40.0, shuffle=True, num_buckets=20)

    def first_durations(epoch):
        return [durations[batch[0][0]] for batch in epochs(sampler, epoch)]

    assert first_durations(0) == sorted(first_durations(0))
    assert first_durations(1) != sorted(first_durations(1))
    assert first_durations(1) != first_durations(2)


@pytest.mark.parametrize("world_size", [2, 3, 8, 64])
def test_hardly_a_batch_comes_twice_for_the_ranks_to_be_in_step(world_size):
    durations = [1.0 + i / 50 for i in range(500)]
    alone = DurationBatchSampler(durations, 40.0, shuffle=True)
    together = DurationBatchSampler(durations, 40.0, shuffle=True, world_size=world_size)
    assert len(alone) <= len(together) * world_size < len(alone) + world_size


def test_ranks_work_on_batches_of_one_bucket_or_of_neighbours():
    durations = [float(1 + i % 20) for i in range(200)]
    ranks = [
        epochs(
            DurationBatchSampler(
                durations, 40.0, shuffle=True, rank=rank, world_size=2, num_buckets=20
            ),
            3,
        )
        for rank in range(2)
    ]
    for one, other in zip(*ranks, strict=True):
        assert abs(durations[one[0][0]] - durations[other[0][0]]) <= 1.0


@pytest.mark.parametrize("start", [1, 7])
def test_start_gives_the_rest_of_the_epoch_once(start):
    sampler = DurationBatchSampler([1.0 + i / 10 for i in range(50)], 5.0, shuffle=True)
    whole = epochs(sampler, 2)
    sampler.start = start
    assert list(sampler) == whole[start:]
    assert list(sampler) == whole
