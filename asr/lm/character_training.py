"""Training of the character model by truncated back-propagation through time.

A text is read in chunks. The state is carried from each chunk into the next, so that the model
knows the whole text so far, but the gradient stops at the edge of the chunk, so that an update
costs the same however long the text is. Each text begins with a fresh state.

Reference: Williams and Peng 1990, "An Efficient Gradient-Based Algorithm for On-Line Training of
Recurrent Network Trajectories".
"""

import itertools
import json
import math
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from rich.console import Console
from rich.progress import Progress
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from asr.atomic import check_writable, whole_file
from asr.errors import ConfigError, LanguageModelError, TextError
from asr.lm.character import (
    PADDING,
    CharacterModel,
    CharacterModelConfig,
    pad_texts,
    parse_character_model,
    read_character_model,
    save_character_model,
)
from asr.lm.pieces import learn_pieces
from asr.lm.sentences import MANIFEST, read_sentences
from asr.models.native_lstm import check_native_lstm, native_stack

CHECKPOINT, MODEL = "checkpoint.safetensors", "model.safetensors"  # in the run folder
METADATA = "asr_character_training"
POOL = 100  # batches whose texts are sorted by length together


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training.

    Attributes:
        text_length: successive sentences of a text file are joined to texts of up to so many
            characters, as utterances run over the ends of sentences; 0 joins none.
        pieces: of words, learnt from the text before the training, that are read as one symbol
            each (:func:`~asr.lm.pieces.learn_pieces`); 0 reads characters alone.
        batch_size: texts read side by side.
        chunk_length: most characters, or pieces, between two updates, and how far back a gradient
            reaches.
        steps: updates in all.
        lr: peak learning rate of Adam.
        warmup: share of the steps over which the learning rate rises; a cosine then takes it to
            zero.
        clip_norm: longest gradient; longer ones are scaled down.
        bfloat16: compute in bfloat16, the weights stay float32. Faster on a GPU, and on a CPU
            with AVX-512 BF16 or AMX; far slower on any other CPU.
        native_lstm: with bfloat16, compute an LSTM by a C kernel that is compiled when training
            starts: faster, on CPUs with AVX512-BF16 alone; see :mod:`asr.models.native_lstm`.
        validate_every: steps between two measurements, each of which leaves a checkpoint.
        seed: of the first weights and the order of the texts.
    """

    text_length: int = 200
    pieces: int = 0
    batch_size: int = 32
    chunk_length: int = 64
    steps: int = 10_000
    lr: float = 6e-3
    warmup: float = 0.02
    clip_norm: float = 1.0
    bfloat16: bool = False
    native_lstm: bool = False
    validate_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "chunk_length", "steps", "validate_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)} is not at least 1")
        fits = {
            "pieces": self.pieces >= 0,
            "lr": self.lr >= 0,
            "warmup": 0 <= self.warmup <= 1,
            "clip_norm": self.clip_norm > 0,
        }
        if self.native_lstm and not self.bfloat16:
            raise ConfigError("native_lstm wants --training.bfloat16 true")
        for name, fit in fits.items():
            if not fit:
                raise ConfigError(f"{name} {getattr(self, name)} is out of range")

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of an update, the first of which is number 0."""
        warmup_steps = max(1, int(self.steps * self.warmup))
        if step < warmup_steps:
            return self.lr * (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, self.steps - warmup_steps)
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def join_texts(sentences: Iterable[str], text_length: int) -> Iterator[str]:
    """Yield sentences that follow one another joined, up to a length in characters."""
    text = ""
    for sentence in sentences:
        if text and len(text) + 1 + len(sentence) > text_length:
            yield text
            text = ""
        text = f"{text} {sentence}" if text else sentence
    if text:
        yield text


def batches(texts: Sequence[str], batch_size: int, seed: int) -> Iterator[list[str]]:
    """Yield batches of texts of about equal length without end, in a new order each epoch."""
    lengths = np.array([len(text) for text in texts])
    for epoch in itertools.count():
        random = np.random.default_rng((seed, epoch))
        order = random.permutation(len(texts))
        pools = np.split(order, range(POOL * batch_size, len(order), POOL * batch_size))
        order = np.concatenate([pool[lengths[pool].argsort(kind="stable")] for pool in pools])
        groups = np.split(order, range(batch_size, len(order), batch_size))
        for group in random.permutation(len(groups)):
            yield [texts[i] for i in groups[group]]


def truncated_losses(
    model: CharacterModel,
    inputs: Tensor,
    targets: Tensor,
    chunk_length: int,
    *,
    bfloat16: bool = False,
) -> Iterator[Tensor]:
    """Yield the loss of each chunk of a batch of texts, for one update after each.

    Args:
        model: reads the texts; it may change between two chunks.
        inputs: (batch, time) int64 from :func:`~asr.lm.character.pad_texts`.
        targets: (batch, time) int64, the same one character later.
        chunk_length: most characters, or pieces, of a chunk; the time is cut evenly.
        bfloat16: compute in bfloat16.

    Yields:
        Mean negative natural-log probability of a character, or piece. Its gradient reaches back
        to the begin of the chunk, while the state comes from the begin of the text.
    """
    chunks = -(-inputs.shape[1] // chunk_length)
    state = model.initial_state(len(inputs))
    for piece, following in zip(
        inputs.clamp(min=0).tensor_split(chunks, dim=1),
        targets.tensor_split(chunks, dim=1),
        strict=True,
    ):
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=bfloat16):
            log_probs, state = model(piece, state.detach())  # here the gradient is cut
        yield nn.functional.nll_loss(
            log_probs.flatten(0, 1), following.flatten(), ignore_index=PADDING
        )


def bits_per_character(model: CharacterModel, texts: Sequence[str]) -> float:
    """Return the mean number of bits of a character; the end of a text counts as one.

    Two to this power is the perplexity.
    """
    characters = sum(len(text) + 1 for text in texts)
    return -float(model.score(texts).double().sum()) / math.log(2) / characters


class CharacterTrainer:
    """A model in training, and all that is needed to go on with it later.

    Raises:
        ConfigError: ``native_lstm`` is not for this model or machine.

    Attributes:
        step: updates so far.
        batches: batches of texts read so far.
        history: one entry per measurement: ``step``, ``train`` and ``val`` in bits per character;
            of a model to start from at step 0, without ``train``.
    """

    def __init__(self, model: CharacterModel, config: TrainingConfig) -> None:
        if config.native_lstm:
            if model.output.weight.device.type != "cpu":
                raise ConfigError("native_lstm wants --device cpu")
            check_native_lstm(model.rnn)
            model.kernel = native_stack
        self.model = model
        self.config = config
        self.optimizer = torch.optim.Adam(model.parameters())
        self.step = 0
        self.batches = 0
        self.history: list[dict[str, float]] = []

    def train_batch(self, texts: Sequence[str]) -> float:
        """Read a batch of texts, with one update a chunk; return the mean loss of a character.

        Raises:
            ConfigError: the gradient is no longer finite.
        """
        tokens = pad_texts([self.model.tokenizer.encode(text) for text in texts])
        inputs, targets = tokens.to(self.model.output.weight.device)
        total = 0.0
        counted = 0
        config = self.config
        losses = truncated_losses(
            self.model, inputs, targets, config.chunk_length, bfloat16=config.bfloat16
        )
        chunks = targets.tensor_split(-(-targets.shape[1] // config.chunk_length), dim=1)
        for loss, chunk in zip(losses, chunks, strict=True):
            self.optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
            if not norm.isfinite():
                raise ConfigError(
                    f"the training diverged at step {self.step}; lower the learning rate, "
                    f"now {config.lr:g}"
                )
            for group in self.optimizer.param_groups:
                group["lr"] = config.learning_rate(self.step)
            self.optimizer.step()
            self.step += 1
            count = int((chunk != PADDING).sum())
            total += count * float(loss.detach())
            counted += count
            if self.step == config.steps:
                break
        self.batches += 1
        symbols = int((targets != PADDING).sum())
        return total / counted * symbols / sum(len(text) + 1 for text in texts)

    @property
    def best(self) -> float:
        """Fewest bits per character on the held-out texts so far."""
        return min(entry["val"] for entry in self.history)

    def save(self, path: Path, settings: dict[str, Any]) -> None:
        """Write a checkpoint, whole or not at all.

        Raises:
            ConfigError: it cannot be written.
        """
        tensors = {f"model.{name}": x for name, x in self.model.state_dict().items()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": x for name, x in moments.items()}
        # A copy each: the weights of a layer may share one storage, which safetensors refuses.
        tensors = {name: x.to("cpu", copy=True).contiguous() for name, x in tensors.items()}
        progress = {"step": self.step, "batches": self.batches, "history": self.history}
        metadata = {METADATA: json.dumps({"settings": settings, **progress})}
        try:
            with whole_file(path) as partial:
                partial.write_bytes(safetensors.torch.save(tensors, metadata))
        except OSError as error:
            raise ConfigError(f"{path}: cannot write this checkpoint: {error}") from error

    def load(self, path: Path, settings: dict[str, Any]) -> None:
        """Go back to a checkpoint.

        Raises:
            ConfigError: it belongs to a training with other settings.
            LanguageModelError: it is damaged.
        """
        try:
            with safe_open(path, framework="pt") as file:
                stored = json.loads(file.metadata()[METADATA])
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            before = {"init_from": 0} | stored["settings"]  # older ones know of none
            for name, value in settings.items():
                if before.get(name, value) != value:
                    what = f"with {name} {before[name]!r}, not {value!r}"
                    if name == "init_from":  # a checksum
                        what = "that started from another model"
                    raise ConfigError(
                        f"{path}: belongs to a training {what}; name another run folder"
                    )
            self.model.load_state_dict(_below("model.", tensors))
            state = self.optimizer.state_dict()
            parameters = state["param_groups"][0]["params"]
            state["state"] = {i: _below(f"optimizer.{i}.", tensors) for i in parameters}
            self.optimizer.load_state_dict(state)
            self.step, self.batches = stored["step"], stored["batches"]
            self.history = stored["history"]
        except (SafetensorError, RuntimeError, LookupError, TypeError, ValueError) as error:
            raise LanguageModelError(
                f"{path}: damaged checkpoint; remove it to start again"
            ) from error


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): x for k, x in tensors.items() if k.startswith(prefix)}


def train_character_model(
    train: Sequence[Path],
    val: Sequence[Path],
    run_dir: Path,
    model: CharacterModelConfig,
    training: TrainingConfig,
    device: torch.device,
    init_from: Path | None = None,
) -> None:
    """Train a character model, or go on from the checkpoint in the run folder.

    The run folder receives ``checkpoint.safetensors`` and ``model.safetensors``, which is the
    model with the fewest bits per character on the held-out texts so far.

    Args:
        train: text files (plain, .gz, .xz) and manifests (.jsonl) to learn from.
        val: the same, held out.
        run_dir: folder of checkpoint and model.
        model: shape of the model.
        training: settings of the training.
        device: where it runs.
        init_from: model, or bundle with one, whose weights to start from. Its shape, alphabet and
            pieces take the place of those given.

    Raises:
        TextError, ManifestError: a file cannot be read, or has no text.
        ConfigError: the run folder holds a training with other settings or cannot be written;
            ``native_lstm`` is not for this model or machine; the training diverged.
        LanguageModelError: the checkpoint is damaged; there is no model to start from.
    """
    start, identity = None, 0
    if init_from:
        content = read_character_model(init_from)
        start, identity = parse_character_model(content, init_from), zlib.crc32(content)
        model, training = start.config, replace(training, pieces=0)
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    hidden = not sys.stderr.isatty()
    # Better refused now than after the work.
    check_writable(run_dir / MODEL)
    CharacterTrainer(CharacterModel(model).to(device), training)
    with Progress(console=console, transient=True, disable=hidden, redirect_stdout=False) as bar:
        texts = _read_texts(train, training.text_length, model.alphabet, bar)
        held_out = _read_texts(val, 0, model.alphabet, bar)
        if training.pieces:
            words = Counter(word for text in texts for word in text.split())
            model = replace(model, pieces=tuple(learn_pieces(words, training.pieces)))
        settings = asdict(model) | asdict(training) | {"texts": len(texts), "init_from": identity}
        del settings["native_lstm"]  # the same training, elsewhere
        for name, what in (("learnt", model.pieces), ("held_out", held_out), ("read", texts)):
            settings[name] = zlib.crc32("\n".join(what).encode())
        torch.manual_seed(training.seed)
        trainer = CharacterTrainer((start or CharacterModel(model)).train().to(device), training)
        checkpoint = run_dir / CHECKPOINT
        if checkpoint.exists():
            trainer.load(checkpoint, settings)
            console.print(f"going on from {checkpoint}, step {trainer.step}")
        elif start:
            bits = bits_per_character(trainer.model, held_out)
            trainer.history.append({"step": 0, "val": bits})
            save_character_model(run_dir / MODEL, trainer.model)
            console.print(f"{init_from}: {bits:.4f} bits per character held out")
        order = batches(texts, training.batch_size, training.seed)
        order = itertools.islice(order, trainer.batches, None)
        task = bar.add_task("training", total=training.steps, completed=trainer.step)
        while trainer.step < training.steps:
            period = trainer.step // training.validate_every + 1
            losses = []
            while trainer.step < min(period * training.validate_every, training.steps):
                losses.append(trainer.train_batch(next(order)))
                bar.update(task, completed=trainer.step)
            train_bits = sum(losses) / len(losses) / math.log(2)
            val_bits = bits_per_character(trainer.model, held_out)
            trainer.history.append({"step": trainer.step, "train": train_bits, "val": val_bits})
            if val_bits == trainer.best:
                save_character_model(run_dir / MODEL, trainer.model)
            trainer.save(checkpoint, settings)
            console.print(
                f"step {trainer.step} of {training.steps}: bits per character {train_bits:.4f} "
                f"while training, {val_bits:.4f} held out"
            )
    console.print(f"{run_dir / MODEL}: {trainer.best:.4f} bits per character held out")


def _read_texts(paths: Sequence[Path], text_length: int, alphabet: str, bar: Progress) -> list[str]:
    """Return the texts of files that the alphabet can write; tell how many others there are."""
    texts: list[str] = []
    left_out = 0
    characters = frozenset(alphabet)
    for path in paths:
        found = list(_read_file(path, bar))
        known = [text for text in found if characters.issuperset(text)]
        left_out += len(found) - len(known)
        # Successive utterances of a manifest need not belong together.
        texts += known if path.suffix == MANIFEST else join_texts(known, text_length)
    names = ", ".join(map(str, paths))
    if not texts:
        raise TextError(f"{names}: no text in the alphabet {alphabet!r}; give text to read")
    length = sum(map(len, texts))
    bar.console.print(f"{names}: {len(texts):,} texts, {length:,} characters")
    if left_out:
        bar.console.print(f"left out: {left_out:,} with characters outside the alphabet")
    return texts


def _read_file(path: Path, bar: Progress) -> Iterator[str]:
    size = path.stat().st_size if path.is_file() else 0
    task = bar.add_task("reading", total=size)
    for words in read_sentences(path, on_progress=lambda done: bar.advance(task, done)):
        yield " ".join(words)
    bar.remove_task(task)
