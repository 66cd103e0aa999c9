"""Models out of training checkpoints."""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.bundle import build_model, load_weights
from asr.errors import BundleError
from asr.models.ctc import CtcModel


def best_checkpoints(run_dir: str | Path) -> list[Path]:
    """Return the best checkpoints that a training run kept.

    They stand in order of validation WER, the lowest first, the last of equals before the others.
    An epoch that was saved twice, as a run does that goes on from a checkpoint before it, counts
    once.

    Raises:
        BundleError: the run has none yet.
    """
    found = list(Path(run_dir).glob("checkpoints/best-*-wer*.ckpt"))
    if not found:
        raise BundleError(f"{run_dir}: no best checkpoint here; train for at least one epoch")

    def rank(path: Path) -> tuple[float, int]:
        _, step, wer, *_ = path.stem.split("-")  # best-STEP-werWER, -v1 if that was there
        return float(wer.removeprefix("wer")), -int(step)

    # Of the same rank a longer name has a higher version, and the last stays.
    unique = {rank(path): path for path in sorted(found, key=lambda path: len(path.name))}
    return [unique[key] for key in sorted(unique)]


def load_average(paths: Sequence[str | Path]) -> CtcModel:
    """Return a model with the mean weights of checkpoints of one run.

    Late in a training such a mean is often better than each of them (Izmailov et al. 2018,
    "Averaging Weights Leads to Wider Optima and Better Generalization").

    Raises:
        BundleError: a checkpoint cannot be used, see :func:`load_checkpoint`, or is of another
            model than the first.
    """
    models = [load_checkpoint(path) for path in paths]
    for path, model in zip(paths, models, strict=True):
        if settings_of(model) != settings_of(models[0]):
            raise BundleError(
                f"{path}: is of another model than {paths[0]}; export one of them, or delete those "
                "of an earlier training"
            )
    mean = mean_weights([model.state_dict() for model in models], [1.0] * len(models))
    load_weights(models[0], mean, Path(paths[0]))
    return models[0]


def settings_of(model: CtcModel) -> tuple[Any, ...]:
    """Return what models must have in common for their weights to have a mean."""
    phones = model.phone_tokenizer
    shape = model.features_config, replace(model.encoder_config, dropout=0.0)  # not of the weights
    return *shape, model.tokenizer.alphabet, phones and phones.phones


def mean_weights(
    states: Sequence[Mapping[str, Tensor]], shares: Sequence[float]
) -> dict[str, Tensor]:
    """Return the mean of models' weights by name, each model having its share in it."""
    total = sum(shares)
    return {
        name: torch.stack(
            [share * state[name] for state, share in zip(states, shares, strict=True)]
        ).sum(dim=0)
        / total
        for name in states[0]
    }


def load_checkpoint(path: str | Path) -> CtcModel:
    """Return the model of a training checkpoint, averaged if the training averaged.

    The checkpoint holds ``asr`` (``alphabet``, ``features``, ``encoder``) and ``state_dict``,
    where the model's weights have the prefix ``model.``. Only tensors and plain values are
    unpickled.

    Raises:
        BundleError: the file is missing, damaged, or no checkpoint of this kind.
    """
    path = Path(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        settings, state = dict(checkpoint["asr"]), dict(checkpoint["state_dict"])
    except FileNotFoundError as error:
        raise BundleError(f"{path}: no such checkpoint") from error
    except (
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        pickle.UnpicklingError,
    ) as error:
        raise BundleError(
            f"{path}: not a checkpoint of asr's training, or a damaged one; give a .ckpt file"
        ) from error
    model = build_model(settings, path)
    prefix = "model."
    weights = {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
    load_weights(model, weights, path)
    return model
