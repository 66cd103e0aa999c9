"""Let small synthesisers read a text, as more speech to train with.

    python recipes/librispeech/synthesis.py TEXT --without TRAIN_JSONL … --output data/synthetic

Needs flite on the PATH and the Python package ttspico (SVOX Pico): six English voices, a few
minutes for five hours of speech. Sentences that the manifests of ``--without`` hold are left out.
Every utterance has a tempo, a pitch and a vocal tract of its own: it is played 0.85 to 1.18 times
as fast, which moves the formants, and read as much slower before.
"""

import argparse
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from asr.cli.messages import step_progress
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.errors import AsrError
from asr.lm.sentences import read_sentences
from asr.text import normalise

MANIFEST = "manifest.jsonl"
RATE = 16_000  # of all the voices
WORDS = range(3, 37)  # of a sentence that is read
TRACT, TEMPO, PITCH, PICO_PITCH = (0.85, 1.18), (0.85, 1.2), (0.8, 1.3), (80, 130)
FLITE = {"slt": 170, "rms": 100, "awb": 120, "kal16": 105}  # voices and their pitch in Hz
SHARES = {"slt": 2.0, "rms": 2.0, "awb": 2.0, "kal16": 0.7, "en-US": 2.5, "en-GB": 2.5}

Read = Callable[[str, str, float, random.Random], NDArray[np.int16]]


def speech(
    text: str, draw: random.Random, flite: Read, pico: Read
) -> tuple[str, NDArray[np.float32]]:
    """Return the name of a voice and its samples, float32 at 16 kHz."""
    [voice] = draw.choices(list(SHARES), list(SHARES.values()))
    tract, tempo = draw.uniform(*TRACT), draw.uniform(*TEMPO)
    read = flite if voice in FLITE else pico
    samples = read(text.lower(), voice, tempo / tract, draw).astype(np.float32) / 32768
    return voice, soxr.resample(samples, RATE * tract, RATE)


def flite_reader(folder: Path) -> Read:
    """Return how flite reads, by way of a file in a folder.

    Raises:
        AsrError: there is no flite, or it fails.
    """
    if not shutil.which("flite"):
        raise AsrError("flite is missing; install it, on Debian by: apt install flite")

    def read(text: str, voice: str, tempo: float, draw: random.Random) -> NDArray[np.int16]:
        pitch = FLITE[voice] * draw.uniform(*PITCH)
        options = [f"duration_stretch={1 / tempo:.3f}", f"int_f0_target_mean={pitch:.1f}"]
        command = ["flite", "-voice", voice, *(part for o in options for part in ("--setf", o))]
        path = folder / "flite.wav"
        done = subprocess.run([*command, "-t", text, "-o", path], capture_output=True, text=True)
        if done.returncode or not path.exists():
            raise AsrError(f"flite cannot read {text!r}: {done.stderr.strip()}")
        samples, rate = soundfile.read(path, dtype="int16")
        if rate != RATE:
            raise AsrError(f"flite's voice {voice} has {rate} Hz, not {RATE}")
        return samples

    return read


def pico_reader() -> Read:
    """Return how SVOX Pico reads.

    Raises:
        AsrError: there is no ttspico.
    """
    try:
        import ttspico
    except ImportError as error:
        raise AsrError("ttspico is missing: pip install ttspico") from error
    engines = {voice: ttspico.TtsEngine(voice) for voice in SHARES if voice not in FLITE}

    def read(text: str, voice: str, tempo: float, draw: random.Random) -> NDArray[np.int16]:
        engine = engines[voice]
        engine.rate = int(100 * tempo)
        engine.pitch = int(draw.uniform(*PICO_PITCH))
        return np.frombuffer(engine.speak(text), np.int16)

    return read


def sentences(text: Path, without: list[Path]) -> list[str]:
    """Return the sentences of a text that manifests lack.

    Raises:
        AsrError: there are none.
    """
    known = {normalise(u.text) for manifest in without for u in read_manifest(manifest)}
    found = (" ".join(words) for words in read_sentences(text) if len(words) in WORDS)
    left = [sentence for sentence in found if sentence not in known]
    if not left:
        raise AsrError(f"{text}: no sentence is left to read; give a text that --without lacks")
    return left


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("text", type=Path, help="sentences, plain, .gz or .xz")
    parser.add_argument("--without", type=Path, nargs="+", default=[], metavar="MANIFEST")
    parser.add_argument("--utterances", type=int, default=2150, help="default: 2150, five hours")
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path("data/synthetic"))
    options = parser.parse_args()
    try:
        manifest = options.output / MANIFEST
        utterances = read_all(options)
        write_manifest(manifest, utterances)
    except (AsrError, OSError, soundfile.LibsndfileError) as error:
        raise SystemExit(f"synthesis: error: {error}") from error
    hours = sum(utterance.duration for utterance in utterances) / 3600
    print(f"{manifest}: {len(utterances)} utterances, {hours:.2f} hours")


def read_all(options: argparse.Namespace) -> list[Utterance]:
    """Write a recording of each sentence that is drawn; return them as utterances."""
    draw = random.Random(options.seed)
    texts = sentences(options.text, options.without)
    draw.shuffle(texts)
    texts = texts[: options.utterances]
    options.output.mkdir(parents=True, exist_ok=True)
    utterances = []
    with (
        tempfile.TemporaryDirectory() as folder,
        step_progress("reading", len(texts)) as advance,
    ):
        flite, pico = flite_reader(Path(folder)), pico_reader()
        # From now on its texts would have other recordings.
        (options.output / MANIFEST).unlink(missing_ok=True)
        for number, text in enumerate(texts):
            voice, samples = speech(text, draw, flite, pico)
            name = f"synthetic-{options.seed}-{number:05}"
            path = options.output / f"{name}.flac"
            soundfile.write(path, samples, RATE)
            seconds = len(samples) / RATE
            utterances.append(Utterance(name, path, seconds, text, f"synthetic-{voice}"))
            advance(1)
    return utterances


if __name__ == "__main__":
    main()
