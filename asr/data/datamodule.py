"""The Lightning data module: manifests in, padded batches out."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from asr.augment import WaveAugmentConfig
from asr.data.cache import FeatureCache
from asr.data.check import MAX_SECONDS
from asr.data.dataset import Batch, SpeechDataset, collate, padded_seconds
from asr.data.manifest import Utterance, read_manifest
from asr.data.sampler import DurationBatchSampler
from asr.errors import ConfigError
from asr.features import FeatureConfig
from asr.pronunciation import check_known, read_pronunciations
from asr.text import ENGLISH, CharTokenizer, normalise


class ResumableLoader(DataLoader[Any]):
    """A data loader that goes on where a checkpoint left it, in the middle of an epoch.

    The data module keeps :meth:`state_dict` in the checkpoints; the sampler then skips what was
    already trained on without reading it.
    """

    batch_sampler: DurationBatchSampler

    def __init__(self, dataset: SpeechDataset, sampler: DurationBatchSampler, workers: int) -> None:
        super().__init__(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_single_thread,
        )
        self.consumed = 0
        self._resume = {"epoch": 0, "consumed": 0}

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, the number of its batches handed out so far, and that of them all."""
        return {
            "epoch": self.batch_sampler.epoch,
            "consumed": self.consumed,
            "batches": len(self.batch_sampler),
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take the position that the next iteration of that epoch starts from."""
        self._resume = state

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield the rest of the epoch if it is the one resumed, else all of it."""
        resume, self._resume = self._resume, {"epoch": 0, "consumed": 0}
        same_epoch = resume["epoch"] == self.batch_sampler.epoch
        self.consumed = resume["consumed"] if same_epoch else 0
        self.batch_sampler.start = self.consumed
        for batch in super().__iter__():
            self.consumed += 1
            yield batch


def _single_thread(_: int) -> None:
    torch.set_num_threads(1)  # the trainer needs the other cores


class SpeechDataModule(lightning.LightningDataModule):
    """Training and validation batches from JSONL manifests.

    Args:
        train: manifests to train on.
        val: manifests to validate on.
        features: settings of the front end.
        augment: distortion of training waveforms; validation is never distorted.
        alphabet: characters the model can write.
        batch_seconds: most padded seconds of audio in a batch.
        max_seconds: longer training utterances are left out, and counted aloud.
        num_workers: processes that read and distort audio; 0 reads in the trainer itself.
        cache_dir: folder for a cache of features; ``None`` computes them anew each time.
        augment_copies: distorted copies of each utterance, kept in the cache and taken in turn
            epoch by epoch, where computing them holds the training up; 0 distorts anew in every
            epoch.
        pronunciations: dictionary of the words of the texts, or a bundle (``.asr``) that holds
            one, for an output of phones beside that of characters; ``None`` for none. Its network
            pronounces words that it lacks.
        seed: of batch order and distortion.

    Raises:
        ConfigError: copies are to be kept, but no folder is named; processes are below 0.
        PronunciationError: the dictionary cannot be read.
    """

    def __init__(
        self,
        train: Sequence[str] = (),
        val: Sequence[str] = (),
        features: FeatureConfig = FeatureConfig(),  # noqa: B008 (frozen)
        augment: WaveAugmentConfig = WaveAugmentConfig(),  # noqa: B008 (frozen)
        alphabet: str = ENGLISH,
        batch_seconds: float = 120.0,
        max_seconds: float = MAX_SECONDS,
        num_workers: int = 2,
        cache_dir: str | None = None,
        augment_copies: int = 0,
        pronunciations: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if augment_copies and not cache_dir:
            raise ConfigError("augment_copies is set but cache_dir is not: name a folder")
        if num_workers < 0:
            raise ConfigError(f"num_workers {num_workers} is no number of processes; 0 needs none")
        self.train_manifests = list(train)
        self.val_manifests = list(val)
        self.features = features
        self.augment = augment
        self.alphabet = alphabet
        self.tokenizer = CharTokenizer(alphabet)
        self.batch_seconds = batch_seconds
        self.max_seconds = max_seconds
        self.num_workers = num_workers
        self.cache = FeatureCache(cache_dir, features) if cache_dir else None
        self.augment_copies = augment_copies
        self.dictionary = pronunciations
        self.pronunciations = read_pronunciations(pronunciations) if pronunciations else None
        self.phones = self.pronunciations.phones if self.pronunciations else ()
        self.seed = seed
        self.train_set: SpeechDataset
        self.val_set: SpeechDataset
        self.train_loader: ResumableLoader
        self.position: dict[str, int] | None = None

    def setup(self, stage: str) -> None:
        """Read the manifests once.

        Raises:
            ConfigError: no manifest is named.
            ManifestError: a manifest cannot be read.
            PronunciationError: the dictionary lacks words of the texts.
        """
        if not hasattr(self, "train_set"):
            every = _read(self.train_manifests, "train")
            train = [u for u in every if u.duration <= self.max_seconds]
            if len(train) < len(every):
                longer = len(every) - len(train)
                rank_zero_warn(f"{longer} utterances over {self.max_seconds} s are left out")
            if not train:
                raise ConfigError(
                    f"all training utterances are over {self.max_seconds} s; cut them at pauses, "
                    "or raise --data.max_seconds"
                )
            val = _read(self.val_manifests, "val")
            if self.pronunciations and self.dictionary:
                texts = [normalise(utterance.text) for utterance in train + val]
                words = (word for text in texts for word in text.split())
                self.pronunciations = self.pronunciations.covering(words)
                # Characters that the alphabet lacks are told before the training starts.
                written = [text for text in texts if not self.tokenizer.unknown([text])]
                check_known(self.pronunciations, written, self.dictionary)
            self.train_set = self._dataset(train, self.augment, self.augment_copies)
            self.val_set = self._dataset(val, None, 0)

    def _dataset(
        self, utterances: list[Utterance], augment: WaveAugmentConfig | None, copies: int
    ) -> SpeechDataset:
        return SpeechDataset(
            utterances,
            self.tokenizer,
            self.features,
            augment,
            self.cache,
            self.seed,
            copies,
            self.pronunciations,
        )

    def train_dataloader(self) -> ResumableLoader:
        """Return shuffled batches of this rank, resumable mid-epoch.

        Raises:
            ConfigError: there are more processes than batches to validate on.
        """
        validation = self._sampler(self.val_set, shuffle=False)
        if validation.batches < validation.world_size:  # or a process would fail at an epoch's end
            raise ConfigError(
                f"{validation.world_size} processes, but the validation set makes only "
                f"{validation.batches} batches; lower --data.batch_seconds, or validate on more"
            )
        sampler = self._sampler(self.train_set, shuffle=True)
        self.train_loader = ResumableLoader(self.train_set, sampler, self.num_workers)
        if self.position:
            before = self.position.get("batches", len(sampler))  # older checkpoints have none
            if before != len(sampler):
                raise ConfigError(
                    f"this run had {before} batches an epoch, now {len(sampler)}: go on with as "
                    "many processes, and the data and --data.batch_seconds of before, or begin "
                    "another --run_dir with --init_from"
                )
            self.train_loader.load_state_dict(self.position)
        return self.train_loader

    def state_dict(self) -> dict[str, int]:
        """Return the position in the training data, for the checkpoint."""
        return self.train_loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Take the position to go on from; Lightning calls this before it asks for loaders.

        Lightning could restore the loader itself, but does so too late when the optimiser's
        schedule has asked for the number of batches before.
        """
        self.position = state_dict

    def val_dataloader(self) -> DataLoader[Any]:
        """Return this rank's share of the validation set; no utterance comes twice."""
        return DataLoader(
            self.val_set,
            batch_sampler=self._sampler(self.val_set, shuffle=False),
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_single_thread,
        )

    def _sampler(self, dataset: SpeechDataset, shuffle: bool) -> DurationBatchSampler:
        trainer: Any = self.trainer
        slowest = min(dataset.augment.speeds) if dataset.augment else 1.0
        return DurationBatchSampler(
            [padded_seconds(u.duration / slowest, self.features) for u in dataset.utterances],
            self.batch_seconds,
            shuffle=shuffle,
            seed=self.seed,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )


def _read(manifests: list[str], name: str) -> list[Utterance]:
    if not manifests:
        raise ConfigError(f"no {name} manifest is named: give --data.{name} '[FILE.jsonl]'")
    return [utterance for manifest in manifests for utterance in read_manifest(Path(manifest))]
