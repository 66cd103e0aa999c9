"""A corpus of noise with the sizes of read speech: speed does not depend on what is said."""

from pathlib import Path

import numpy as np
import soundfile

from asr.data.manifest import Utterance, write_manifest

SAMPLE_RATE = 16_000
CHARACTERS_PER_SECOND = 14


def write_noise_corpus(folder: Path, seconds: float) -> Path:
    """Write FLAC files of 4 to 16 s, ``seconds`` in all, and return their manifest."""
    rng = np.random.default_rng(0)
    utterances: list[Utterance] = []
    while seconds > 0:
        duration = rng.uniform(4, 16)
        waveform = 0.05 * rng.standard_normal(round(duration * SAMPLE_RATE))
        text = rng.choice(
            list("ABCDEFGHIJKLMNOPQRSTUVWXYZ "), round(duration * CHARACTERS_PER_SECOND)
        )
        path = folder / f"{len(utterances):04}.flac"
        soundfile.write(path, waveform, SAMPLE_RATE)
        utterances.append(Utterance(path.stem, path, duration, "".join(text)))
        seconds -= duration
    write_manifest(folder / "manifest.jsonl", utterances)
    return folder / "manifest.jsonl"
