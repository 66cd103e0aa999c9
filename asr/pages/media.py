"""Sound, spectrogram and CTC posteriors of an utterance, small enough to embed in a page."""

import base64
import io
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
import torch
from PIL import Image

from asr.errors import AsrError
from asr.features import LogMel
from asr.plots.inspection import Excerpt, read_excerpt
from asr.scoring.utterances import ScoredUtterance
from asr.transcriber import Transcriber

MOST_SECONDS = 40.0  # of each recording
MOST_BYTES = 15_000_000  # of all
RANDOM_SHARE = 0.2
SEED = 0
OPUS_RATE = 16_000
OPUS_COMPRESSION = 0.95  # about 20 kbit/s
DYNAMIC_RANGE = 80.0  # decibels shown below the loudest
WEBP_QUALITY = 55


def choose(utterances: Sequence[ScoredUtterance], number: int) -> list[int]:
    """Return the places of the utterances to embed: most of the worst, a few drawn at random.

    The worst show where a system fails, the others what it is like on the whole.
    """
    ranked = sorted(
        range(len(utterances)),
        key=lambda i: (-utterances[i].words.errors, -utterances[i].words.rate, i),
    )
    worst = number - round(RANDOM_SHARE * number)
    drawn = random.Random(SEED).sample(ranked, len(ranked))
    others = [i for i in drawn if i not in set(ranked[:worst])]
    return [*others[: number - worst], *ranked[:worst]]


def embed(
    utterances: Sequence[ScoredUtterance], transcriber: Transcriber, number: int
) -> dict[int, Mapping[str, Any]]:
    """Return sound and pictures of some utterances, by their places.

    Recordings that cannot be read are left out, and so is what would exceed ``MOST_BYTES``.

    Args:
        utterances: with the paths of their recordings.
        transcriber: gives the posteriors.
        number: how many utterances.
    """
    media: dict[int, Mapping[str, Any]] = {}
    room = MOST_BYTES
    for i in choose(utterances, number):
        path = Path(utterances[i].audio)
        try:
            # What is wrong with it was told when it was transcribed.
            excerpt = read_excerpt(
                path, transcriber.sample_rate, 0.0, MOST_SECONDS, on_damage=lambda _: None
            )
        except AsrError:
            continue
        item = _item(excerpt, transcriber)
        room -= sum(len(value) for value in item.values() if isinstance(value, str))
        if room < 0:
            break
        media[i] = item
    return media


@torch.inference_mode()
def _item(excerpt: Excerpt, transcriber: Transcriber) -> dict[str, Any]:
    model = transcriber.model
    waveform = torch.from_numpy(excerpt.waveform)[None]
    length = torch.tensor([waveform.shape[1]])
    log_probs, _ = model.log_probs_of(
        waveform.to(transcriber.device), length.to(transcriber.device)
    )
    log_mel = LogMel(model.features_config)(waveform)[0].numpy()
    posteriors = log_probs[0].exp().numpy(force=True)
    return {
        "seconds": round(excerpt.end, 3),
        "audio": _base64(_opus(excerpt)),
        "mel": _base64(_picture(_grey(log_mel), "webp", quality=WEBP_QUALITY, method=4)),
        "mel_frame_seconds": model.features_config.frame_seconds,
        "posteriors": _base64(_picture(np.rint(255 * posteriors.T), "png", optimize=True)),
        "frame_seconds": model.frame_seconds,
    }


def _opus(excerpt: Excerpt) -> bytes:
    waveform = soxr.resample(excerpt.waveform, excerpt.sample_rate, OPUS_RATE)
    file = io.BytesIO()
    soundfile.write(
        file,
        waveform,
        OPUS_RATE,
        format="OGG",
        subtype="OPUS",
        compression_level=OPUS_COMPRESSION,
    )
    return file.getvalue()


def _grey(log_mel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return (n_mels, frames) from 0 to 255, the highest band first."""
    decibels = log_mel.T[::-1] * (10 / np.log(10))
    return np.clip(255 * (1 + (decibels - decibels.max()) / DYNAMIC_RANGE), 0, 255)


def _picture(values: npt.NDArray[np.float32], kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(file, kind, **options)
    return file.getvalue()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
