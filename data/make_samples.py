"""Make the clips of ``data/samples``: synthetic speech in the formats that users have.

Needs the ``flite`` command (Debian: ``apt-get install flite``). Run from anywhere::

    python data/make_samples.py
"""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from asr.data.manifest import Utterance, write_manifest

SAMPLES = Path(__file__).parent / "samples"


@dataclass(frozen=True)
class Clip:
    """One clip to make; the suffix of ``file`` is its format, ``voice`` one of flite's."""

    file: str
    voice: str
    sample_rate: int
    channels: int
    subtype: str
    text: str


CLIPS = [
    Clip(
        "river.wav",
        "slt",
        16_000,
        1,
        "PCM_16",
        "The old man walked slowly along the river until the light was gone",
    ),
    Clip(
        "letter.flac",
        "rms",
        22_050,
        1,
        "PCM_16",
        "She opened the letter with a trembling hand and read it twice",
    ),
    Clip(
        "clock.ogg",
        "awb",
        44_100,
        2,
        "VORBIS",
        "There was no sound in the house but the ticking of the clock",
    ),
    Clip(
        "carriage.wav",
        "kal",
        8_000,
        1,
        "ULAW",
        "The carriage stood before the door and the horses were impatient",
    ),
    Clip(
        "summer.opus",
        "slt",
        16_000,
        1,
        "OPUS",
        "We shall never forget the kindness of that summer said his sister",
    ),
    Clip(
        "snow.mp3",
        "rms",
        44_100,
        2,
        "MPEG_LAYER_III",
        "In the morning the snow lay deep upon the hills and the road was lost",
    ),
    Clip(
        "silence.mp3",
        "awb",
        22_050,
        1,
        "MPEG_LAYER_III",
        "It isn't the cold that troubles me he said but the long silence",
    ),
    Clip(
        "captain.flac",
        "kal16",
        16_000,
        2,
        "PCM_16",
        "The captain did not answer for he was looking out to sea",
    ),
]


def speak(text: str, voice: str) -> tuple[np.ndarray, int]:
    """Return what flite says, (time,) float32, and its sample rate."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "speech.wav")
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
        waveform, sample_rate = soundfile.read(path, dtype="float32")
    return waveform, sample_rate


def make(clip: Clip) -> Utterance:
    """Write one clip and return its manifest line."""
    waveform, sample_rate = speak(clip.text, clip.voice)
    waveform = soxr.resample(waveform, sample_rate, clip.sample_rate)
    waveform *= 0.7 / np.abs(waveform).max()
    if clip.channels == 2:  # the speaker stands to the left
        waveform = np.stack([waveform, 0.5 * waveform], axis=1)
    path = SAMPLES / clip.file
    container = "OGG" if path.suffix == ".opus" else None
    soundfile.write(path, waveform, clip.sample_rate, format=container, subtype=clip.subtype)
    duration = len(waveform) / clip.sample_rate
    return Utterance(path.stem, path, duration, clip.text.upper(), clip.voice)


def main() -> None:
    """Make all clips and their manifest."""
    SAMPLES.mkdir(exist_ok=True)
    write_manifest(SAMPLES / "manifest.jsonl", [make(clip) for clip in CLIPS])


if __name__ == "__main__":
    main()
