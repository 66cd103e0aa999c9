"""An on-disk cache of features, for corpora small enough to keep."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asr.atomic import whole_file
from asr.errors import AudioError, reason_of
from asr.features import FeatureConfig

VERSION = 1  # raise when asr.features computes something else from the same settings


class FeatureCache:
    """Keeps features in one ``.npy`` file an utterance, below a folder per feature setting.

    An entry is found again only for the same content of a recording, distortion and settings, so
    that nothing stale is ever used, and a corpus may be moved. Safe among processes.
    """

    def __init__(self, folder: str | Path, config: FeatureConfig) -> None:
        # Normalisation happens in the model, after the cache.
        settings = asdict(replace(config, normalisation="none")) | {"version": VERSION}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.folder = Path(folder) / digest[:16]
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, audio: Path, distortion: object) -> Path:
        """Return where the features of a recording are kept.

        Args:
            audio: the recording.
            distortion: what it went through, told by its ``str``: a speed, or more than that.

        Raises:
            AudioError: the recording cannot be read.
        """
        try:
            content = hashlib.blake2b(audio.read_bytes()).digest()
        except OSError as error:
            raise AudioError(f"{audio}: cannot be read: {reason_of(error)}") from error
        digest = hashlib.blake2b(content + str(distortion).encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:34]}.npy"

    def load(self, path: Path) -> Tensor | None:
        """Return (frames, n_features) or ``None`` if there is no whole entry."""
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False))
        except (OSError, ValueError, EOFError):
            return None

    def save(self, path: Path, features: Tensor) -> None:
        """Store features whole or not at all."""
        with whole_file(path) as partial, partial.open("wb") as file:
            np.save(file, features.numpy(), allow_pickle=False)
