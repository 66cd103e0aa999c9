"""CTC training: the Lightning module, its measurements and the training command line."""

import math
import re
import signal
import time
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning
import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    RichProgressBar,
)
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException
from rapidfuzz.distance import Levenshtein
from torch import Tensor
from torch.nn.functional import ctc_loss
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from asr.augment import SpecAugmentConfig, random_generator, spec_augment
from asr.bundle import load_bundle
from asr.data.check import check_utterances
from asr.data.datamodule import SpeechDataModule
from asr.data.dataset import Batch, SpeechDataset, feature_statistics
from asr.decoding.greedy import GreedyDecoder
from asr.errors import AsrError, ConfigError
from asr.features import FeatureConfig, length_mask
from asr.memory import keep_freed_memory
from asr.models.crf import Denominator, phone_trigram
from asr.models.ctc import CtcModel
from asr.models.encoder import EncoderConfig
from asr.models.native_lstm import use_native_lstm
from asr.pronunciation import GAP
from asr.text import ENGLISH

MOST_NAMED = 20  # utterances with problems at the start of a training
CTC_SHARE = 0.1  # of CTC beside CTC-CRF, against overfitting, as Xiang and Ou (2019) have it
# Of weights: with half precision they lose small updates, and the losses want single precision.
PRECISIONS = ("32", "32-true", "16", "16-mixed", "bf16", "bf16-mixed")


class CtcModule(lightning.LightningModule):
    """Trains a :class:`~asr.models.ctc.CtcModel` with the CTC loss.

    Args:
        features: settings of the front end, shared with the data module.
        encoder: shape of the encoder.
        alphabet: characters the model can write, shared with the data module.
        phones: names of the phones of a second output, from the data module's pronunciations.
        phone_weight: of the second output's loss, 0..1; the rest is for characters.
        phone_crf: train the second output with the CTC-CRF loss of :mod:`asr.models.crf`, for
            fewer errors where words are searched by their sound.
        spec_augment: masks over the features while training.
        lr: peak learning rate.
        weight_decay: of AdamW, on matrices only.
        warmup: share of all steps over which the learning rate rises; a cosine then takes it
            to zero.
        clip_norm: longest gradient; longer ones are scaled down.
        init_from: bundle (``.asr``) whose weights to start from. With another alphabet the output
            layer is made anew, as that of phones with other phones.
        native_lstm: compute LSTM layers by a C kernel that is compiled when training starts:
            faster, on CPUs with AVX512-BF16 alone; see :mod:`asr.models.native_lstm`.
        seed: of dropout and masks.
    """

    def __init__(
        self,
        features: FeatureConfig = FeatureConfig(),  # noqa: B008 (frozen)
        encoder: EncoderConfig = EncoderConfig(),  # noqa: B008 (frozen)
        alphabet: str = ENGLISH,
        phones: Sequence[str] = (),
        phone_weight: float = 0.5,
        phone_crf: bool = False,
        spec_augment: SpecAugmentConfig = SpecAugmentConfig(),  # noqa: B008 (frozen)
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        clip_norm: float = 5.0,
        init_from: str | None = None,
        native_lstm: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, share in {"phone_weight": phone_weight, "warmup": warmup}.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"{name} {share} is not in 0..1")
        if not clip_norm > 0:
            raise ConfigError(f"clip_norm {clip_norm} would stop all learning; give one above 0")
        if phone_crf and not phones:
            raise ConfigError(
                "phone_crf wants phones: give --data.pronunciations, or --model.phone_crf false"
            )
        self.model = CtcModel(features, encoder, alphabet, phones)
        # Alike on all ranks; DDP would send them at each batch, of which ranks have unequal numbers
        # in validation.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]
        self.phone_weight = phone_weight
        self.phone_crf = phone_crf
        self.denominator: Denominator | None = None
        self.decoder = GreedyDecoder(self.model.tokenizer)
        self.spec_augment = spec_augment
        self.lr = lr
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.clip_norm = clip_norm
        self.native_lstm = native_lstm
        self.seed = seed
        self.start = 0  # checksum of the weights that it started from
        if init_from:
            self._take_weights(init_from)
        self.validation: list[tuple[str, str]] = []  # (reference, hypothesis)
        self.phone_errors = torch.zeros(2, dtype=torch.long)  # errors, phones
        self.blanks = torch.zeros(2, dtype=torch.long)  # blank frames, all frames
        self.lost: set[int] = set()  # training utterances without a finite loss, named already
        self.lost_in_epoch = 0
        self.skipped_steps = 0

    def _take_weights(self, path: str) -> None:
        """Start from a bundle's weights, but for outputs of other characters or phones."""
        source = load_bundle(path).model
        mine = self.model.encoder_config
        encoder = replace(source.encoder_config, dropout=mine.dropout)
        if (source.features_config, encoder) != (self.model.features_config, mine):
            raise ConfigError(
                f"{path}: has other features or another encoder than this model; use its settings"
            )
        weights = source.state_dict()
        for tensor in weights.values():
            self.start = zlib.crc32(tensor.numpy(), self.start)
        if source.tokenizer.alphabet != self.model.tokenizer.alphabet:
            rank_zero_info(f"{path}: another alphabet, the output layer is made anew")
            weights = {k: v for k, v in weights.items() if not k.startswith("output.")}
        phones = source.phone_tokenizer and source.phone_tokenizer.phones
        if phones != (self.model.phone_tokenizer and self.model.phone_tokenizer.phones):
            weights = {k: v for k, v in weights.items() if not k.startswith("phone_output.")}
            if phones and not self.model.phone_tokenizer:
                rank_zero_warn(
                    f"{path}: its phones are left out, and with them the search by sound; "
                    f"--data.pronunciations {path} keeps them"
                )
        self.model.load_state_dict(weights, strict=False)

    def on_fit_start(self) -> None:
        """Look at the data before anything is trained on it.

        Raises:
            ConfigError: a text holds characters outside the alphabet; there can be no native
                kernel.
        """
        if self.native_lstm:
            if self.device.type != "cpu" or self.trainer.precision != "bf16-mixed":
                raise ConfigError(
                    "native_lstm wants --trainer.accelerator cpu --trainer.precision bf16-mixed"
                )
            use_native_lstm(self.model)
        elif (
            self.device.type == "cpu"
            and self.trainer.precision == "bf16-mixed"
            and not torch.cpu._is_avx512_bf16_supported()
        ):
            rank_zero_warn(
                "this CPU has no AVX512-BF16, bf16-mixed may be far slower than single precision; "
                "give the same command with --trainer.precision 32-true"
            )
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping):  # a run that was stopped remains so
                waited = callback.wait_count
                self.trainer.should_stop |= 0 < waited >= callback.patience
            if not isinstance(callback, EMAWeightAveraging) or callback._device:
                continue
            if callback._average_model:  # it was made before the model was moved
                callback._average_model.to(self.device)
        data: SpeechDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        fastest = max(data.augment.speeds)
        self._check("training", data.train_set, fastest)
        self._check("validation", data.val_set, 1.0)
        if self.phone_crf:
            assert self.model.phone_tokenizer
            texts = data.train_set.phone_texts()
            trigram = phone_trigram(texts, len(self.model.phone_tokenizer))
            self.denominator = Denominator(trigram, self.device)
        if self.model.features_config.normalisation == "global" and not self.trainer.ckpt_path:
            self.model.normalisation.set_statistics(*feature_statistics(data.train_set))

    def _check(self, name: str, dataset: SpeechDataset, speed: float) -> None:
        features, encoder = self.model.features_config, self.model.encoder_config

        def output_frames(seconds: float) -> int:
            samples = int(seconds / speed * features.sample_rate)
            return encoder.output_length(features.num_frames(samples))

        found = check_utterances(dataset.utterances, dataset.tokenizer, output_frames)
        rank_zero_info(
            f"{name}: {found.utterances} utterances, {found.seconds / 3600:.2f} h, "
            f"{found.speakers} speakers"
        )
        if found.unknown:
            unknown = ", ".join(f"{c!r} x {n}" for c, n in found.unknown.most_common())
            raise ConfigError(
                f"{name} texts hold characters outside the alphabet: {unknown}; "
                "spell them out in the manifest or extend --data.alphabet"
            )
        for problem in found.problems[:MOST_NAMED]:
            rank_zero_warn(f"{name}: {problem.id}: {problem.kind}: {problem.detail}")
        if len(found.problems) > MOST_NAMED:
            rank_zero_warn(f"{name}: {len(found.problems)} such utterances in all")

    def on_train_epoch_start(self) -> None:
        """Count lost utterances anew."""
        self.lost_in_epoch = 0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean loss per target character of one batch."""
        # Masks and dropout depend on the position in training only, so that a resumed run
        # repeats them.
        generator = random_generator(self.seed, self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(generator.initial_seed())
        features = self.model.normalisation(batch.features, batch.feature_lengths)
        features = spec_augment(features, batch.feature_lengths, self.spec_augment)
        encoded, lengths = self.model.encoder(features, batch.feature_lengths)
        log_probs = self.model.characters(encoded)
        losses = _ctc_losses(log_probs, lengths, batch.targets, batch.target_lengths)
        lost = _lost(losses, batch.target_lengths)
        characters = batch.target_lengths.sum().clamp(min=1)
        loss = losses.sum() / characters
        self.log("train/loss", loss.detach(), prog_bar=True)
        if self.model.phone_tokenizer:
            phone_losses = self._phone_losses(encoded, lengths, batch)
            lost |= _lost(phone_losses, batch.phone_lengths)
            phone_loss = phone_losses.sum() / characters
            self.log("train/phone_loss", phone_loss.detach(), prog_bar=True)
            loss = (1 - self.phone_weight) * loss + self.phone_weight * phone_loss
        self._count_lost(batch.indices[lost].tolist())
        return loss

    def _phone_losses(self, encoded: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        log_probs = self.model.phones(encoded)
        losses = _ctc_losses(log_probs, lengths, batch.phones, batch.phone_lengths)
        if self.denominator is None:
            return losses
        # But for the probability of the phones themselves, which no weight changes.
        total = self.denominator(log_probs, lengths)
        return torch.where(losses > 0, (1 + CTC_SHARE) * losses + total, 0.0)

    def _count_lost(self, indices: Sequence[int]) -> None:
        """Count utterances without a finite loss, and name each once."""
        self.lost_in_epoch += len(indices)
        new = [index for index in indices if index not in self.lost]
        self.lost.update(new)
        if new:
            utterances = self.trainer.datamodule.train_set.utterances  # type: ignore[attr-defined]
            names = ", ".join(utterances[index].id for index in new)
            warnings.warn(
                f"no finite loss, perhaps too few frames for the text: {names}", stacklevel=2
            )

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Scale long gradients down; leave a step out whose gradient is not finite.

        Reference: Pascanu et al. 2013, "On the difficulty of training recurrent neural networks".
        """
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), self.clip_norm)
        if not norm.isfinite():
            optimizer.zero_grad()
            self.skipped_steps += 1
            rank_zero_warn(f"gradient is not finite, step {self.global_step} left out")
        self.log("train/gradient_norm", norm)
        self.log("train/skipped_steps", float(self.skipped_steps))

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation."""
        self.validation.clear()
        self.phone_errors.zero_()
        self.blanks.zero_()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Decode one batch greedily and keep the texts for the error rates."""
        features = self.model.normalisation(batch.features, batch.feature_lengths)
        encoded, lengths = self.model.encoder(features, batch.feature_lengths)
        log_probs = self.model.characters(encoded)
        characters = int(batch.target_lengths.sum())
        losses = _ctc_losses(log_probs, lengths, batch.targets, batch.target_lengths)
        loss = losses.sum() / max(characters, 1)
        self.log("val/loss", loss, batch_size=characters, sync_dist=True)
        hypotheses = self.decoder.decode(log_probs, lengths)
        for target, n_best in zip(batch.targets.tolist(), hypotheses, strict=True):
            self.validation.append((self.model.tokenizer.decode(target), n_best[0].text))
        is_blank = log_probs.argmax(dim=2) == self.model.tokenizer.blank
        blanks = (is_blank & length_mask(lengths, is_blank.shape[1])).sum()
        self.blanks += torch.stack([blanks, lengths.sum()]).cpu()
        if self.model.phone_tokenizer:
            phone_loss = self._phone_losses(encoded, lengths, batch).sum() / max(characters, 1)
            self.log("val/phone_loss", phone_loss, batch_size=characters, sync_dist=True)
            self._count_phones(encoded, lengths, batch)

    def _count_phones(self, encoded: Tensor, lengths: Tensor, batch: Batch) -> None:
        """Decode phones greedily and count errors and phones; gaps between words do not count."""
        tokenizer = self.model.phone_tokenizer
        assert tokenizer is not None
        ignored = {tokenizer.blank, *tokenizer.encode(GAP)}
        hypotheses = GreedyDecoder(tokenizer).decode(self.model.phones(encoded), lengths)
        for target, n_best in zip(batch.phones.tolist(), hypotheses, strict=True):
            said = [token for token in target if token not in ignored]
            heard = [token for token in n_best[0].tokens if token not in ignored]
            self.phone_errors += torch.tensor([Levenshtein.distance(said, heard), len(said)])

    def on_validation_epoch_end(self) -> None:
        """Log error rates and blank rate over all ranks, and show a few pairs."""
        measured = [_count_errors(self.validation), self.blanks, self.phone_errors]
        counts = torch.cat([*measured, torch.tensor([self.lost_in_epoch])]).to(self.device)
        counts = self.trainer.strategy.reduce(counts, reduce_op="sum")
        word_errors, words, character_errors, characters, *rest = counts.tolist()
        blanks, frames, phone_errors, phones, lost = rest
        rates = {
            "val/wer": word_errors / max(words, 1),
            "val/cer": character_errors / max(characters, 1),
            "val/blank_rate": blanks / max(frames, 1),
            "train/lost_utterances": float(lost),
        }
        if self.model.phone_tokenizer:
            rates["val/per"] = phone_errors / max(phones, 1)
        self.log_dict(rates, prog_bar=True, sync_dist=True)  # the same on every rank
        for reference, hypothesis in self.validation[:: max(1, len(self.validation) // 3)][:3]:
            rank_zero_info(f"  reference:  {reference}\n  hypothesis: {hypothesis}")

    def configure_optimizers(self) -> Any:
        """Return AdamW with a linear warm-up and a cosine to zero."""
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters() if p.ndim > 1]},
            # Biases and norms have no excess to shrink.
            {"params": [p for p in self.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = AdamW(
            groups,
            self.lr,
            betas=(0.9, 0.98),
            weight_decay=self.weight_decay,
            # With it, gradients are clipped before they are scaled back.
            fused=self.trainer.precision != "16-mixed",
        )
        steps = int(self.trainer.estimated_stepping_batches)
        warmup_steps = max(1, int(steps * self.warmup))

        def scale(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / warmup_steps
            progress = (step - warmup_steps) / max(1, steps - warmup_steps)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

        return [optimizer], [{"scheduler": LambdaLR(optimizer, scale), "interval": "step"}]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with another model; take patience and rates that are asked for now.

        Raises:
            ConfigError: features, encoder (but for its dropout), alphabet, phones or the weights
                to start from differ from those that the run began with.
        """
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping):
                state = checkpoint.get("callbacks", {}).get(callback.state_key, {})
                state["patience"] = callback.patience
        settings, stored = self._settings(), {"phones": []} | checkpoint.get("asr", {})
        settings["encoder"]["dropout"] = stored.get("encoder", {}).get("dropout")
        if stored != settings:
            raise ConfigError(
                "this run folder holds another model (of other features, encoder, alphabet or "
                "phones); use its settings or another --run_dir"
            )
        began = self._origin() | checkpoint.get("asr_origin", {})  # older checkpoints have none
        if began["start"] != self.start:
            raise ConfigError(
                "this run folder holds a training that began from another --init_from, or with "
                "and now without one; give that again, or another --run_dir"
            )
        if began["validation"] != self._origin()["validation"]:
            rank_zero_warn(
                "validated on other data than before: the error rates in the names of older "
                "checkpoints do not compare with new ones"
            )
        for optimizer in checkpoint["optimizer_states"]:
            matrices, *_ = groups = optimizer["param_groups"]
            matrices["weight_decay"] = self.weight_decay
            for group in groups:
                group["lr"] *= self.lr / group["initial_lr"]
                group["initial_lr"] = self.lr
        for scheduler in checkpoint["lr_schedulers"]:
            scheduler["base_lrs"] = [self.lr] * len(scheduler["base_lrs"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the settings that ``asr export`` needs to rebuild the model."""
        checkpoint["asr"] = self._settings()
        checkpoint["asr_origin"] = self._origin()

    def _origin(self) -> dict[str, int]:
        """Return checksums of what a run must go on with for its error rates to compare."""
        data: SpeechDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        validation = "".join(f"{u.id}\t{u.text}\n" for u in data.val_set.utterances)
        return {"start": self.start, "validation": zlib.crc32(validation.encode())}

    def _settings(self) -> dict[str, Any]:
        return {
            "alphabet": self.model.tokenizer.alphabet,
            "phones": list(phones.phones) if (phones := self.model.phone_tokenizer) else [],
            "features": asdict(self.model.features_config),
            "encoder": asdict(self.model.encoder_config),
        }


def _ctc_losses(
    log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
) -> Tensor:
    """Return the loss of each item, (batch,); 0 where the frames cannot hold the text."""
    return ctc_loss(
        log_probs.transpose(0, 1),
        targets,
        lengths,
        target_lengths,
        reduction="none",
        zero_infinity=True,
    )


def _lost(losses: Tensor, target_lengths: Tensor) -> Tensor:
    """Return which losses were infinite (now 0) or are NaN, (batch,)."""
    return ~losses.isfinite() | ((losses == 0) & (target_lengths > 0))


def _count_errors(pairs: Sequence[tuple[str, str]]) -> Tensor:
    """Return word errors, words, character errors and characters of (reference, hypothesis)s."""
    counts = torch.zeros(4, dtype=torch.long)
    for reference, hypothesis in pairs:
        words = reference.split()
        counts += torch.tensor(
            [
                Levenshtein.distance(words, hypothesis.split()),
                len(words),
                Levenshtein.distance(reference, hypothesis),
                len(reference),
            ]
        )
    return counts


class Meter(lightning.Callback):
    """Logs speed, the share of time spent waiting for data, and the learning rate."""

    def __init__(self) -> None:
        self.start = self.end = time.perf_counter()
        self.waited = self.spent = self.audio = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Leave what came before out of the figures."""
        self.end = time.perf_counter()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, idx: int) -> None:
        """Take the time since the last batch as waiting for data."""
        self.start = time.perf_counter()
        self.waited += self.start - self.end

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, idx: int
    ) -> None:
        """Log the figures over the steps since they were last logged."""
        now = time.perf_counter()
        self.spent += now - self.end
        self.end = now
        frames = int(batch.feature_lengths.sum()) * trainer.world_size
        self.audio += frames * pl_module.model.features_config.frame_seconds
        every = trainer.log_every_n_steps  # 0 logs nothing
        if every and trainer.global_step % every == 0:
            pl_module.log("train/audio_seconds_per_second", self.audio / self.spent, prog_bar=True)
            pl_module.log("train/data_wait_share", self.waited / self.spent)
            pl_module.log("train/lr", trainer.optimizers[0].param_groups[0]["lr"])
            self.waited = self.spent = self.audio = 0.0

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the validation out of the figures."""
        self.end = time.perf_counter()


class StepCheckpoint(ModelCheckpoint):
    """Saves every so many updates, at moments from which a run goes on as if it never stopped."""

    def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        """Save if it is time, but neither half an update nor an epoch before its validation."""
        loop = trainer.fit_loop.epoch_loop
        if not (loop.batch_progress.is_last_batch or loop._should_accumulate()):
            super().on_train_batch_end(trainer, *args, **kwargs)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Save what came due with the last batch."""
        super().on_train_epoch_end(trainer, pl_module)
        every = self._every_n_train_steps  # 0 if it saves by epochs or by the clock
        if (
            every
            and trainer.global_step % every == 0
            and not self._should_skip_saving_checkpoint(trainer)
        ):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))


class TrainingCLI(LightningCLI):
    """The training command line: every option of trainer, model and data, plus a few of ours."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add run folder, checkpoints, averaging and early stopping; tie shared settings."""
        parser.add_argument("--run_dir", default="runs/train", help="folder of logs, checkpoints")
        parser.add_argument(
            "--init_from",
            type=str | None,
            help="bundle (.asr) to start from, with its front end and encoder",
        )
        parser.add_lightning_class_args(StepCheckpoint, "checkpoint")
        parser.add_lightning_class_args(ModelCheckpoint, "best")
        parser.add_lightning_class_args(ModelCheckpoint, "last")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.add_lightning_class_args(EMAWeightAveraging, "ema")
        parser.set_defaults(
            {
                # Two, so that one is whole even if the machine stops while the other is written.
                "checkpoint.filename": "last-{step}",
                "checkpoint.monitor": "step",
                "checkpoint.mode": "max",
                "checkpoint.save_top_k": 2,
                "checkpoint.every_n_train_steps": 500,
                "best.filename": "best-{step}-wer{val/wer:.4f}",
                "best.auto_insert_metric_name": False,
                "best.monitor": "val/wer",
                "best.save_top_k": 3,
                "best.save_on_train_epoch_end": True,
                # Each validated epoch, the best or not: a finished run is known as finished by it.
                "last.filename": "last",
                "last.enable_version_counter": False,
                "last.save_on_train_epoch_end": True,
                "early_stopping.monitor": "val/wer",
                "early_stopping.patience": 1000,  # off: with a cosine, the end is the best
                # With the validation: a run resumed after it has no metrics at the epoch's end.
                "early_stopping.check_on_train_epoch_end": False,
                "ema.decay": 0.999,
                "trainer.max_epochs": 40,
                "trainer.num_sanity_val_steps": 0,
                "trainer.use_distributed_sampler": False,  # our batch sampler shares out batches
                "trainer.log_every_n_steps": 20,
            }
        )
        parser.link_arguments("run_dir", "trainer.default_root_dir")
        for name in ("checkpoint", "best", "last"):
            parser.link_arguments("run_dir", f"{name}.dirpath", lambda run: f"{run}/checkpoints")
        # A checkpoint of an epoch without validation would bear an earlier one's error rate.
        for name in ("best", "last"):
            parser.link_arguments("trainer.check_val_every_n_epoch", f"{name}.every_n_epochs")
        parser.link_arguments("init_from", "model.init_from")
        for name in ("features", "alphabet", "phones"):
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")
        for name in ("model.seed", "data.seed"):
            parser.link_arguments("seed_everything", name, lambda seed: int(seed or 0))

    def before_instantiate_classes(self) -> None:
        """Take features and encoder from the bundle to start from; its dropout may change.

        Raises:
            ConfigError: the training would have no end; its last updates would never be
                validated, nor kept; checkpoints would bear the error rate of others; the weights
                would have half precision; an option would have no effect.
        """
        trainer = self.config.trainer
        if trainer.accelerator == "auto" and torch.backends.mps.is_available():
            trainer.accelerator = "cpu"  # PyTorch has no CTC loss on Apple's GPU
        if trainer.precision is not None and str(trainer.precision) not in PRECISIONS:
            raise ConfigError(
                f"--trainer.precision {trainer.precision} cannot train; "
                "take 32-true, or bf16-mixed or 16-mixed for speed"
            )
        if trainer.max_steps not in (-1, None):
            raise ConfigError(
                "--trainer.max_steps ends between two validations, so that the last updates would "
                "be lost; give --trainer.max_epochs, with --trainer.limit_train_batches if an "
                "epoch is too long"
            )
        for name in ("gradient_clip_val", "gradient_clip_algorithm"):
            if getattr(trainer, name) is not None:
                raise ConfigError(f"--trainer.{name} has no effect here; give --model.clip_norm")
        # As a whole number, 1 is one batch.
        if type(trainer.val_check_interval) is int or trainer.val_check_interval not in (None, 1.0):
            raise ConfigError(
                f"--trainer.val_check_interval {trainer.val_check_interval}: checkpoints are kept "
                "at the end of an epoch, by its own error rate; give "
                "--trainer.limit_train_batches if an epoch is too long"
            )
        epochs, every = trainer.max_epochs, trainer.check_val_every_n_epoch
        if every is None or every < 1:
            raise ConfigError(
                f"--trainer.check_val_every_n_epoch {every}: checkpoints are kept by their error "
                "rate; give a number from 1"
            )
        if epochs is not None and epochs < 1:
            raise ConfigError(
                f"--trainer.max_epochs {epochs}: the learning rate falls towards the last epoch; "
                "give a number from 1"
            )
        if epochs is not None and epochs % every:
            raise ConfigError(
                f"--trainer.max_epochs {epochs} is no multiple of "
                f"--trainer.check_val_every_n_epoch {every}, so that the last epochs would be "
                f"lost; take {epochs - epochs % every + every}"
            )
        if self.config.init_from:
            model = load_bundle(self.config.init_from).model
            self.config.data.features = Namespace(**asdict(model.features_config))
            encoder = asdict(model.encoder_config)
            encoder["dropout"] = self.config.model.encoder.dropout
            rank_zero_info(
                f"starting from {self.config.init_from}, whose front end and encoder are used: "
                f"{encoder['num_layers']} layers of {encoder['hidden_size']} units"
            )
            self.config.model.encoder = Namespace(**encoder)

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        """Log to TensorBoard and CSV below the run folder unless told otherwise."""
        trainer_config, run_dir = self.config_init.trainer, self.config_init.run_dir
        self.trainer_defaults = {"callbacks": [Meter()]}
        if trainer_config.enable_progress_bar is not False:
            self.trainer_defaults["callbacks"].append(RichProgressBar())
        if trainer_config.logger is None:
            kwargs["logger"] = [
                TensorBoardLogger(run_dir, "tensorboard"),
                CSVLogger(run_dir, "csv"),
            ]
        try:
            trainer: lightning.Trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, TypeError) as error:  # TypeError: -1 CPUs
            raise ConfigError(f"--trainer: {str(error).splitlines()[0]}") from error
        return trainer


def newest_checkpoint(run_dir: str | Path) -> Path | None:
    """Return the newest whole checkpoint of a run, or ``None``; damaged ones are named."""
    checkpoints = Path(run_dir).glob("checkpoints/last*.ckpt")
    for path in sorted(checkpoints, key=lambda p: p.stat().st_mtime, reverse=True):
        if zipfile.is_zipfile(path):
            return path
        rank_zero_warn(f"{path}: damaged checkpoint passed over")
    return None


def train(arguments: Sequence[str] | None = None, **defaults: Any) -> TrainingCLI:
    """Run the training command line: start, or go on from the run's newest checkpoint.

    Args:
        arguments: command-line arguments; those of the process if ``None``.
        defaults: further settings of :class:`LightningCLI`.

    Raises:
        AsrError: settings, manifests or texts are not what they should be.
    """
    keep_freed_memory()
    cli = TrainingCLI(
        CtcModule,
        SpeechDataModule,
        run=False,
        args=list(arguments) if arguments is not None else None,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"usage": "%(prog)s [--config FILE] [--OPTION VALUE ...]"},  # not all 300
        **defaults,
    )
    checkpoint = newest_checkpoint(cli.config.run_dir)
    if checkpoint:
        rank_zero_info(f"going on from {checkpoint}")
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=checkpoint, weights_only=True)
    except Exception:
        _end_processes(cli.trainer)
        raise
    return cli


def _end_processes(trainer: lightning.Trainer) -> None:
    """End those that the first process started, which may wait for it for half an hour."""
    kill = getattr(trainer.strategy.launcher, "kill", None)
    if kill:
        kill(signal.SIGKILL)


def main() -> None:
    """Run :func:`train` for a recipe: mistakes of the user give one line, exit code 1."""
    warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning's own, harmless
    try:
        train()
    except AsrError as error:
        line = str(error)
        if line.startswith("Caught "):  # by a process that reads data, with its traceback
            line = re.sub(r"^asr\.errors\.\w+: ", "", line.splitlines()[-1])
        raise SystemExit(f"train: error: {line}") from error
    except (MisconfigurationException, OSError) as error:
        raise SystemExit(f"train: error: {str(error).splitlines()[0]}") from error
    except SIGTERMException as error:  # Lightning's, with the exit code of a training that ended
        raise SystemExit(128 + signal.SIGTERM) from error
