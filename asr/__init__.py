"""A compact speech recogniser: bidirectional LSTM, CTC, and the recipes to train it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asr.transcriber import Transcriber

__version__ = "0.1.0"


def load_model(
    model: str | Path | None = None, device: str | None = None, **decoding: Any
) -> "Transcriber":
    """Load a model for transcription; see :meth:`asr.transcriber.Transcriber.load`."""
    from asr.transcriber import Transcriber  # slow to import: only when needed

    return Transcriber.load(model, device, **decoding)
