"""How fast is training, and how much of it is the bare LSTM?

Trains through the Lightning trainer for a few epochs. After each epoch a bare ``nn.LSTM`` + CTC
loop runs over the same batches, already in memory, so that both meet the same machine.

    python benchmarks/training.py --workers 0 1 2 --precision bf16-mixed
"""

import argparse
import logging
import tempfile
import time
import warnings
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from bare import BareLoop, BareModel
from clocks import clocks
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger
from synthetic import write_noise_corpus

from asr.augment import WaveAugmentConfig
from asr.data.cache import FeatureCache
from asr.data.datamodule import SpeechDataModule
from asr.data.dataset import Batch, SpeechDataset
from asr.data.manifest import read_manifest, write_manifest
from asr.features import FeatureConfig
from asr.memory import keep_freed_memory
from asr.models.encoder import EncoderConfig
from asr.text import CharTokenizer
from asr.training import CtcModule, Meter


@dataclass(frozen=True)
class Epoch:
    """Seconds of audio in an epoch, and the seconds that each part of it took.

    ``training`` and ``bare`` are (2,), by the wall's clock and of CPU time.
    """

    audio: float
    training: np.ndarray
    bare: np.ndarray
    waiting: float


class Comparison(lightning.Callback):
    """Times every epoch of the trainer from its first step's end on, then the bare loop on it."""

    def __init__(self, bare: BareLoop) -> None:
        self.bare = bare
        self.epochs: list[Epoch] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin a new account."""
        self.batches: list[Batch] = []
        self.waiting = 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, idx: int) -> None:
        """Take the time since the last batch as waiting for data, as the training's log does."""
        if idx > 0:
            self.waiting += time.perf_counter() - self.last

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, idx: int
    ) -> None:
        """Keep the batch for the bare loop."""
        self.batches.append(batch)
        self.last = time.perf_counter()
        if idx == 0:
            self.start = clocks()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the account, and run the bare loop over all batches but the first."""
        training = clocks() - self.start
        batches = self.batches[1:]
        start = clocks()
        for batch in batches:
            self.bare.step(batch)
        bare = clocks() - start
        frames = sum(int(batch.feature_lengths.sum()) for batch in batches)
        audio = frames * pl_module.model.features_config.frame_seconds
        self.epochs.append(Epoch(audio, training, bare, self.waiting))


def compare(manifest: Path, folder: Path, workers: int, cache: bool, options: Any) -> list[Epoch]:
    """Train on a manifest; return its epochs without the first, in which all warms up."""
    features = FeatureConfig()
    encoder = EncoderConfig(hidden_size=options.hidden_size, num_layers=options.num_layers)
    cache_dir = str(folder / "cache") if cache else None
    if cache_dir:
        fill_cache(manifest, cache_dir, features)
    data = SpeechDataModule(
        [str(manifest)],
        [str(manifest)],
        features,
        batch_seconds=options.batch_seconds,
        num_workers=workers,
        cache_dir=cache_dir,
    )
    module = CtcModule(features, encoder, native_lstm=options.native_lstm)
    trainer = lightning.Trainer(
        max_epochs=1 + options.repetitions,
        precision=options.precision,
        devices=1,
        logger=CSVLogger(folder),
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=20,
    )
    model = BareModel(features.n_features, encoder, len(data.tokenizer))
    model.to(trainer.strategy.root_device)
    loop = BareLoop(model, encoder.subsampling, bf16=options.precision == "bf16-mixed")
    comparison = Comparison(loop)
    trainer.callbacks += [Meter(), EMAWeightAveraging(decay=0.999), comparison]
    trainer.fit(module, data)
    return comparison.epochs[1:]


def fill_cache(manifest: Path, cache_dir: str, features: FeatureConfig) -> None:
    """Compute every feature once at each speed, as the first epochs of a training do."""
    utterances, cache = read_manifest(manifest), FeatureCache(cache_dir, features)
    for speed in WaveAugmentConfig().speeds:
        augment = WaveAugmentConfig(speeds=(speed,))
        dataset = SpeechDataset(utterances, CharTokenizer(), features, augment, cache)
        for index in range(len(dataset)):
            dataset[index, 0]


def part_of(manifest: Path, folder: Path, seconds: float) -> Path:
    """Write a manifest with about ``seconds`` of another, evenly spread; return it."""
    utterances = read_manifest(manifest)
    step = max(1, round(sum(u.duration for u in utterances) / seconds))
    write_manifest(folder / "part.jsonl", utterances[::step])
    return folder / "part.jsonl"


def row(epochs: list[Epoch], workers: int, cache: bool) -> str:
    """Return the medians over the epochs as a row of the table."""
    training = np.median([epoch.audio / epoch.training[0] for epoch in epochs])
    bare = np.median([epoch.audio / epoch.bare[0] for epoch in epochs])
    share, cpu_share = np.median([epoch.bare / epoch.training for epoch in epochs], axis=0)
    waiting = np.median([epoch.waiting / epoch.training[0] for epoch in epochs])
    return (
        f"| {workers} | {'on' if cache else 'off'} | {training:.0f}x | {bare:.0f}x "
        f"| {share:.0%} | {cpu_share:.0%} | {waiting:.1%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, help="real speech; noise if not given")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="bf16-mixed")
    parser.add_argument("--hidden-size", type=int, default=EncoderConfig.hidden_size)
    parser.add_argument("--num-layers", type=int, default=EncoderConfig.num_layers)
    parser.add_argument(
        "--native-lstm", action="store_true", help="our kernel against the bare loop"
    )
    parser.add_argument("--batch-seconds", type=float, default=60.0)
    parser.add_argument("--steps", type=int, default=20, help="of one epoch, about")
    parser.add_argument("--repetitions", type=int, default=5, help="epochs measured")
    parser.add_argument(
        "--return-memory", action="store_true", help="let malloc return memory, as it does unasked"
    )
    options = parser.parse_args()
    if not options.return_memory:
        keep_freed_memory()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.precision}")
    print("| workers | cache | training | bare loop | share | of CPU time | waiting for data |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder, seconds = Path(name), options.steps * options.batch_seconds
        if options.manifest:
            manifest = part_of(options.manifest, folder, seconds)
        else:
            manifest = write_noise_corpus(folder, seconds)
        for cache, workers in product((False, True), options.workers):
            epochs = compare(manifest, folder, workers, cache, options)
            print(row(epochs, workers, cache), flush=True)


if __name__ == "__main__":
    main()
