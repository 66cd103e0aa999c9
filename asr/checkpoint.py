"""Models out of training checkpoints."""

import pickle
from pathlib import Path

import torch

from asr.bundle import build_model, load_weights
from asr.errors import BundleError
from asr.models.ctc import CtcModel


def best_checkpoint(run_dir: str | Path) -> Path:
    """Return the checkpoint of a training run with the lowest validation WER, the last of equals.

    Raises:
        BundleError: the run has none yet.
    """
    found = list(Path(run_dir).glob("checkpoints/best-*-wer*.ckpt"))
    if not found:
        raise BundleError(f"{run_dir}: no best checkpoint here; train for at least one epoch")

    def rank(path: Path) -> tuple[float, int]:
        _, step, wer, *_ = path.stem.split("-")  # best-STEP-werWER, -v1 if that was there
        return float(wer.removeprefix("wer")), -int(step)

    return min(found, key=rank)


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
