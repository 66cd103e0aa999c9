"""Batches of utterances of similar length, capped in padded seconds, resumable mid-epoch."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from asr.augment import random_generator

Draw = tuple[int, int]  # (utterance index, epoch)


class DurationBatchSampler(Sampler[list[Draw]]):
    """Groups utterances into duration buckets and draws batches from them.

    The first epoch runs from short to long, which steadies early CTC training; later epochs
    shuffle inside the buckets and then the batches. The order depends on seed and epoch alone,
    so a run can be resumed at any batch. The number of batches is the same in every epoch and
    on every rank; at one step all ranks work on batches of the same bucket, or of neighbours.

    Each draw carries its epoch, so that worker processes know it without shared state.

    Reference: Amodei et al. 2015, "Deep Speech 2" (SortaGrad).

    Args:
        durations: seconds of each utterance.
        batch_seconds: most padded seconds in a batch; a longer utterance is a batch of its own.
        shuffle: ``False`` gives the same batches in each epoch, sorted, for validation.
        seed: of the shuffling.
        rank: of this process.
        world_size: number of processes.
        num_buckets: how finely durations are told apart.
    """

    def __init__(
        self,
        durations: Sequence[float],
        batch_seconds: float,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_buckets: int = 30,
    ) -> None:
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start = 0
        order = sorted(range(len(durations)), key=durations.__getitem__)
        size = -(-len(order) // num_buckets)
        self.buckets = [order[i : i + size] for i in range(0, len(order), size)]
        self.batch_sizes = [
            max(1, int(batch_seconds / durations[bucket[-1]])) for bucket in self.buckets
        ]

    def __len__(self) -> int:
        """Return the number of batches of one rank in one epoch, wherever it starts."""
        if self.shuffle:
            return -(-self.batches // self.world_size)
        return len(range(self.rank, self.batches, self.world_size))

    @property
    def batches(self) -> int:
        """Number of batches that all ranks share."""
        return sum(
            -(-len(bucket) // size)
            for bucket, size in zip(self.buckets, self.batch_sizes, strict=True)
        )

    @property
    def sampler(self) -> "DurationBatchSampler":
        """This sampler itself: Lightning announces each epoch to ``batch_sampler.sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield this rank's batches from ``start`` on; ``start`` then falls back to 0."""
        start, self.start = self.start, 0
        for batch in self._batches()[start:]:
            yield [(index, self.epoch) for index in batch]

    def _batches(self) -> list[list[int]]:
        if not self.shuffle:
            batches = [
                bucket[i : i + size]
                for bucket, size in zip(self.buckets, self.batch_sizes, strict=True)
                for i in range(0, len(bucket), size)
            ]
            return batches[self.rank :: self.world_size]
        generator = random_generator(self.seed, self.epoch)
        batches = []
        for bucket, size in zip(self.buckets, self.batch_sizes, strict=True):
            order = torch.randperm(len(bucket), generator=generator).tolist()
            batches += [
                [bucket[i] for i in order[j : j + size]] for j in range(0, len(order), size)
            ]
        # Ranks beyond the last batch repeat those before it.
        missing = -len(batches) % self.world_size
        batches += [batches[-1 - i % len(batches)] for i in range(missing)]
        # Each round has one batch per rank.
        rounds = [batches[i : i + self.world_size] for i in range(0, len(batches), self.world_size)]
        if self.epoch > 0:
            rounds = [rounds[i] for i in torch.randperm(len(rounds), generator=generator).tolist()]
        return [batches[self.rank] for batches in rounds]
