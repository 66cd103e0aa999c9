"""An on-disk cache of features, for corpora small enough to keep."""

import hashlib
import io
import json
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asr.atomic import whole_file
from asr.errors import AsrWarning, AudioError, ConfigError, reason_of
from asr.features import FeatureConfig

VERSION = 1  # raise when asr.features computes something else from the same settings


class FeatureCache:
    """Keeps features in one ``.npy`` file an utterance, below a folder per feature setting.

    An entry is found again only for the same content of a recording, distortion and settings, so
    that nothing stale is ever used, and a corpus may be moved. Safe among processes.

    Raises:
        ConfigError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path, config: FeatureConfig) -> None:
        # Normalisation happens in the model, after the cache.
        settings = asdict(replace(config, normalisation="none")) | {"version": VERSION}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.folder = Path(folder) / digest[:16]
        self.is_told = False  # that features cannot be stored
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{folder}: cannot hold a cache of features: {reason_of(error)}"
            ) from error

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
        """Store features whole or not at all; where that fails, training goes on without.

        Warns:
            AsrWarning: they cannot be stored; once in each process.
        """
        entry = io.BytesIO()  # as numpy would not tell why it cannot write a file
        np.save(entry, features.numpy(), allow_pickle=False)
        try:
            with whole_file(path) as partial:
                partial.write_bytes(entry.getbuffer())
        except OSError as error:
            if not self.is_told:
                self.is_told = True
                warnings.warn(
                    f"{self.folder}: features cannot be stored and are computed each time: "
                    f"{error.strerror or error}; make room there or name another cache_dir",
                    AsrWarning,
                    stacklevel=2,
                )
