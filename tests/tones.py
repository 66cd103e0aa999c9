"""A tiny corpus in which each letter is a pitch: enough for a model to learn to read."""

import random
from pathlib import Path

import numpy as np
import soundfile

from asr.data.manifest import Utterance, write_manifest

ALPHABET = " ABCD"
PITCHES = {"A": 300.0, "B": 600.0, "C": 1200.0, "D": 2400.0}
SAMPLE_RATE = 8000


def speak(text: str, seed: int = 0) -> np.ndarray:
    """Return (time,) float32: 0.12 s of tone a letter, silence for a space, a little noise."""
    rng = np.random.default_rng(seed)
    pieces = []
    for character in text:
        time = np.arange(int(0.12 * SAMPLE_RATE)) / SAMPLE_RATE
        tone = np.sin(2 * np.pi * PITCHES.get(character, 0.0) * time) * np.hanning(len(time))
        pieces.append(0.3 * tone)
    waveform = np.concatenate(pieces)
    return (waveform + 0.003 * rng.standard_normal(len(waveform))).astype(np.float32)


def write_corpus(folder: Path, name: str, count: int, seed: int = 0) -> Path:
    """Write ``count`` recordings of one to three words and return their manifest."""
    rng = random.Random(seed)
    utterances = []
    (folder / name).mkdir(parents=True)
    for number in range(count):
        words = rng.randint(1, 3)
        text = " ".join("".join(rng.choices("ABCD", k=rng.randint(1, 4))) for _ in range(words))
        waveform = speak(text, seed=seed * 10_000 + number)
        path = folder / name / f"{name}-{number}.wav"
        soundfile.write(path, waveform, SAMPLE_RATE)
        utterances.append(Utterance(path.stem, path, len(waveform) / SAMPLE_RATE, text, name))
    manifest = folder / f"{name}.jsonl"
    write_manifest(manifest, utterances)
    return manifest
