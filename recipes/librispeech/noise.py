"""Make noise to train with, noise to test with, and recordings in which nobody speaks.

    python recipes/librispeech/noise.py NOISE --output data/noise

NOISE is a folder with one folder per kind of noise, as ESC-10 has. Three quarters of each kind go
to ``train/``, for ``data.augment.noise_dir``; the rest to ``held_out/``, for ``robustness.py``.
Coloured noise, which covers more of speech than most that is recorded, is made for ``train/``.
From all in ``train/``, and from tunes made for it, come the recordings of ``speechless.jsonl``: cut
or repeated to 1.5 to 15 seconds, so that batches mix them with speech of all lengths, with an
empty text.
"""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.audio import load_audio
from asr.data.dataset import noise_files
from asr.data.manifest import Utterance, write_manifest
from asr.errors import AsrError, ConfigError

RATE = 16_000
SECONDS = (1.5, 15.0)
COLOURED_SECONDS = 5
TUNE_SECONDS = 15
COLOURED = Path("train") / "coloured"
SCALES = [
    [0, 2, 4, 5, 7, 9, 11],
    [0, 2, 3, 5, 7, 8, 10],
    [0, 2, 4, 7, 9],
]  # major, minor, five tones

Samples = NDArray[np.float64]


def split(noise: Path, output: Path, coloured: int) -> list[Path]:
    """Copy the clips of each kind to ``train`` and ``held_out``; return those to train with.

    Raises:
        ConfigError: there are none, or two would have the same name in the manifest; there are
            clips of another run, but for the first ``coloured`` that are made.
    """
    kinds: dict[Path, list[Path]] = {}
    for clip in noise_files(noise):
        kinds.setdefault(clip.parent, []).append(clip)
    copies, train = {}, []
    for clips in kinds.values():
        for number, clip in enumerate(clips):
            part = "train" if number < 0.75 * len(clips) else "held_out"
            copies[clip] = output / part / clip.relative_to(noise)
            if part == "train":
                train.append(copies[clip])
    names(train, output)  # better refused now than after the work
    made = {output / COLOURED / clip_name(number) for number in range(coloured)}
    for folder in (output / "train", output / "held_out"):
        there = {path for path in folder.rglob("*") if path.is_file()}
        if left := sorted(there - made - {*copies.values()}):
            raise ConfigError(
                f"{left[0]} is of another run, and would be heard too; delete {folder}, or name "
                "another --output"
            )
    for clip, copy in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clip, copy)
    return train


def names(clips: list[Path], output: Path) -> list[str]:
    """Return what the recordings of clips are called: by kind and file, ``rain-1``.

    Raises:
        ConfigError: two would be called the same.
    """
    named: dict[str, Path] = {}
    for clip in clips:
        path = clip.relative_to(output)
        parts = path.with_suffix("").parts
        name = "-".join(parts[1:] if len(parts) > 2 else parts)  # of train/rain/1, but tune/000
        if name in named:
            raise ConfigError(f"{named[name]} and {path} would both be called {name}; rename one")
        named[name] = path
    return list(named)


def make(sound: Callable[[np.random.Generator], Samples], number: int, folder: Path) -> list[Path]:
    """Write clips of a sound, each drawn with its number for a seed; return them."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for index in range(number):
        path = folder / clip_name(index)
        soundfile.write(path, sound(np.random.default_rng(index)), RATE)
        clips.append(path)
    return clips


def clip_name(number: int) -> str:
    """Return the name of a clip that is made."""
    return f"{number:03d}.flac"


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


def tune(draw: np.random.Generator) -> Samples:
    """Return music: one to four voices that wander over a scale, most often with a drum.

    A voice has its own register, timbre, attack, decay and rhythm, and plays up to three notes at
    a time.
    """
    beat = 60 / draw.uniform(60, 180)
    scale = SCALES[draw.integers(len(SCALES))]
    key = draw.uniform(-6, 6)  # semitones; most music is not tuned to ours
    mix = np.zeros(TUNE_SECONDS * RATE)
    for _ in range(draw.integers(1, 5)):
        mix += draw.uniform(0.3, 1) * voice(draw, beat, scale, key)
    if draw.random() < 0.6:
        mix += draw.uniform(0.2, 1) * drum(draw, beat)
    return 0.5 * mix / np.abs(mix).max()


def voice(draw: np.random.Generator, beat: float, scale: list[int], key: float) -> Samples:
    """Return what one instrument plays, at most 1 loud."""
    samples = np.zeros(TUNE_SECONDS * RATE)
    slope, even = draw.uniform(0.5, 2.5), draw.uniform(0, 1)  # of overtones: brightness, hollowness
    attack, decay = draw.uniform(0.005, 0.1), draw.choice([0.15, 0.5, 1.5, 5])  # seconds
    vibrato, rhythm = draw.uniform(0, 0.006), 2.0 ** draw.integers(-2, 2)
    chord = draw.integers(1, 4)
    place, start = int(draw.integers(-7, 15)), 0.0  # steps of the scale from middle C
    while start < TUNE_SECONDS:
        seconds = beat * rhythm * draw.choice([1, 1, 2, 3])
        time = np.arange(int(min(1.2 * seconds, TUNE_SECONDS - start) * RATE)) / RATE
        envelope = np.minimum(time / attack, 1) * np.exp(-time / decay)
        envelope *= np.clip((1.2 * seconds - time) / 0.05, 0, 1)  # no click at its end
        bent = time + vibrato / 30 * np.sin(2 * np.pi * 5 * time)
        first = int(start * RATE)
        for step in range(chord) if draw.random() < 0.9 else ():  # or a rest
            octave, degree = divmod(place + 2 * step, len(scale))
            pitch = 261.6 * 2 ** (octave + (scale[degree] + key) / 12)
            samples[first : first + len(time)] += envelope * note(pitch, bent, slope, even)
        place = int(np.clip(place + draw.integers(-3, 4), -12, 18))
        start += seconds
    return samples / max(np.abs(samples).max(), 1e-9)


def note(pitch: float, time: Samples, slope: float, even: float) -> Samples:
    """Return a note's overtones below 7.5 kHz, each weaker than the one before it."""
    samples = np.zeros(len(time))
    for overtone in range(1, min(20, int(7500 / pitch)) + 1):
        level = overtone**-slope * (even if overtone % 2 == 0 else 1)
        samples += level * np.sin(2 * np.pi * overtone * pitch * time)
    return samples


def drum(draw: np.random.Generator, beat: float) -> Samples:
    """Return bursts of noise on beats, halves or quarters of them, at most 1 loud."""
    samples = np.zeros(TUNE_SECONDS * RATE)
    every = beat * 2.0 ** -draw.integers(0, 3)
    for start in np.arange(0, TUNE_SECONDS - 0.3, every):
        time = np.arange(int(0.3 * RATE)) / RATE
        hit = draw.standard_normal(len(time)) * np.exp(-time / draw.choice([0.01, 0.03, 0.08]))
        first = int(start * RATE)
        samples[first : first + len(time)] += draw.choice([0, 0.5, 1]) * hit
    return samples / max(np.abs(samples).max(), 1e-9)


def speechless(clips: list[Path], output: Path) -> list[Utterance]:
    """Write a recording of random length of each clip; return them as utterances without text.

    Raises:
        AsrError: a clip cannot be read, or two would have the same name.
    """
    folder = output / "speechless"
    lengths = np.random.default_rng(0).uniform(*SECONDS, len(clips))
    utterances = []
    for clip, name, seconds in zip(clips, names(clips, output), lengths, strict=True):
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
    parser.add_argument("--tunes", type=int, default=120, help="pieces of music to make")
    options = parser.parse_args()
    try:
        train = split(options.noise, options.output, options.coloured)
        train += make(coloured_noise, options.coloured, options.output / COLOURED)
        tunes = make(tune, options.tunes, options.output / "tune")
        utterances = speechless(train + tunes, options.output)
        manifest = options.output / "speechless.jsonl"
        write_manifest(manifest, utterances)
    except AsrError as error:
        raise SystemExit(f"noise: error: {error}") from error
    except (OSError, soundfile.LibsndfileError) as error:  # which name the file
        raise SystemExit(f"noise: error: {error}; check it or name another --output") from error
    hours = sum(utterance.duration for utterance in utterances) / 3600
    print(f"{manifest}: {len(utterances)} recordings without speech, {hours:.2f} hours")


if __name__ == "__main__":
    main()
