"""Make noise to train with, noise to test with, and recordings in which nobody speaks.

    python recipes/librispeech/noise.py NOISE --output data/noise

NOISE is a folder with one folder per kind of noise, as ESC-10 has. Three quarters of each kind go
to ``train/``, for ``data.augment.noise_dir``; the rest to ``held_out/``, for ``robustness.py``.
Coloured noise, which covers more of speech than most that is recorded, is made for ``train/``.
From all in ``train/`` the recordings of ``speechless.jsonl`` are made: cut or repeated to 1.5 to
15 seconds, so that batches mix them with speech of all lengths, with an empty text.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.audio import load_audio
from asr.data.dataset import noise_files
from asr.data.manifest import Utterance, write_manifest
from asr.errors import AsrError

RATE = 16_000
SECONDS = (1.5, 15.0)
COLOURED_SECONDS = 5

Samples = NDArray[np.float64]


def split(noise: Path, output: Path) -> list[Path]:
    """Copy the clips of each kind to ``train`` and ``held_out``; return those to train with."""
    kinds: dict[Path, list[Path]] = {}
    for clip in noise_files(noise):
        kinds.setdefault(clip.parent, []).append(clip)
    train = []
    for kind, clips in kinds.items():
        for number, clip in enumerate(clips):
            part = "train" if number < 0.75 * len(clips) else "held_out"
            copy = output / part / kind.relative_to(noise) / clip.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(clip, copy)
            if part == "train":
                train.append(copy)
    return train


def coloured(number: int, folder: Path) -> list[Path]:
    """Write clips of noise from blue to brown, whose loudness comes and goes; return them."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for index in range(number):
        path = folder / f"{index:03d}.flac"
        soundfile.write(path, coloured_noise(np.random.default_rng(index)), RATE)
        clips.append(path)
    return clips


def coloured_noise(draw: np.random.Generator) -> Samples:
    """Return noise of a random slope of its power spectrum, f^0.5 to f^-2, and random swell.

    Its level swings by up to 6 dB either way, 0.1 to 4 times a second, as waves and rain do.
    """
    length = COLOURED_SECONDS * RATE
    frequencies = np.fft.rfftfreq(length, 1 / RATE)
    slope = draw.uniform(-2, 0.5)
    spectrum = np.fft.rfft(draw.standard_normal(length))
    spectrum *= np.maximum(frequencies, 50) ** (slope / 2)  # flat below, lest all be rumble
    cycles = draw.uniform(0.1, 4) * np.arange(length) / RATE + draw.uniform()
    decibels = draw.uniform(0, 6) * np.sin(2 * np.pi * cycles)
    noise = np.fft.irfft(spectrum, length) * 10 ** (decibels / 20)
    return 0.5 * noise / np.abs(noise).max()


def speechless(clips: list[Path], folder: Path) -> list[Utterance]:
    """Write a recording of random length of each clip; return them as utterances without text."""
    lengths = np.random.default_rng(0).uniform(*SECONDS, len(clips))
    utterances = []
    for clip, seconds in zip(clips, lengths, strict=True):
        name = f"{clip.parent.name}-{clip.stem}"
        path = folder / f"{name}.flac"
        folder.mkdir(parents=True, exist_ok=True)
        samples = np.resize(load_audio(clip, RATE), int(seconds * RATE))
        soundfile.write(path, samples, RATE)
        utterances.append(Utterance(name, path, len(samples) / RATE, "", clip.parent.name))
    return utterances


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("noise", type=Path)
    parser.add_argument("--output", type=Path, default=Path("data/noise"))
    parser.add_argument("--coloured", type=int, default=120, help="clips of noise to make")
    options = parser.parse_args()
    try:
        train = split(options.noise, options.output)
        train += coloured(options.coloured, options.output / "train" / "coloured")
        utterances = speechless(train, options.output / "speechless")
        manifest = options.output / "speechless.jsonl"
        write_manifest(manifest, utterances)
    except AsrError as error:
        raise SystemExit(f"noise: error: {error}") from error
    hours = sum(utterance.duration for utterance in utterances) / 3600
    print(f"{manifest}: {len(utterances)} recordings without speech, {hours:.2f} hours")


if __name__ == "__main__":
    main()
