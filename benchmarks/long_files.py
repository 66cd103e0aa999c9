"""Do long recordings lose words or take memory, and do processes help with many short ones?

Joins the recordings of a manifest, with pauses of 0 to 2 s of digital silence or low noise or with
none, each speaker's in order or all mixed, and compares the word error rate of the whole with that
of its parts. Then repeats the joined recording for hours and prints what ``asr transcribe`` needs.
Runs where the system tells the memory of a finished process (Linux, macOS).

    python benchmarks/long_files.py dev-clean.jsonl
    python benchmarks/long_files.py dev-clean.jsonl --take-every 4 --decoder greedy --hours 10
"""

import argparse
import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jiwer
import numpy as np
import soundfile
from usage import usage_of

from asr.audio import load_audio
from asr.data.manifest import Utterance, read_manifest
from asr.text import normalise
from asr.transcriber import Transcriber, Transcript

SAMPLE_RATE = 16_000
MOST_PAUSE = 2.0  # seconds
NOISE = 1e-3  # -60 dB


def join(utterances: Sequence[Utterance], path: Path, pause: float, noise: float) -> None:
    """Write the recordings one after another, with random pauses of up to ``pause`` seconds."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16") as file:
        for utterance in utterances:
            file.write(load_audio(utterance.audio, SAMPLE_RATE))
            samples = round(rng.uniform(0, pause) * SAMPLE_RATE)
            file.write(noise * rng.standard_normal(samples).astype(np.float32))


def repeat(source: Path, path: Path, seconds: float) -> None:
    """Write a recording over and over until it lasts as long."""
    waveform, rate = soundfile.read(source, dtype="int16")
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as file:
        left = round(seconds * rate)
        while left > 0:
            file.write(waveform[:left])
            left -= len(waveform)


def error_rate(utterances: Sequence[Utterance], texts: Sequence[str]) -> float:
    """Return the word error rate of all texts together, however they are cut."""
    reference = " ".join(normalise(utterance.text) for utterance in utterances)
    return jiwer.wer(reference, " ".join(texts))


def compare(utterances: list[Utterance], decoder: str | None, folder: Path) -> None:
    """Print word error rates of the recordings alone and of all in one."""
    settings = {"method": decoder} if decoder else {}
    transcriber = Transcriber.load(**settings)
    mixed = random.Random(0).sample(utterances, len(utterances))
    alone = {
        utterance.id: result.text
        for utterance, result in zip(
            utterances, transcriber.transcribe_many([u.audio for u in utterances]), strict=True
        )
        if isinstance(result, Transcript)
    }
    print(f"{len(utterances)} recordings, {sum(u.duration for u in utterances) / 60:.0f} min")
    print("order     pauses          alone    joined  difference  pieces", flush=True)
    for order, chosen in (("speakers", utterances), ("mixed", mixed)):
        for name, pause, noise in (
            ("none", 0.0, 0.0),
            ("silence 0-2 s", MOST_PAUSE, 0.0),
            ("noise 0-2 s", MOST_PAUSE, NOISE),
        ):
            join(chosen, folder / "joined.wav", pause, noise)
            whole = transcriber.transcribe(folder / "joined.wav")
            parts = error_rate(chosen, [alone[utterance.id] for utterance in chosen])
            joined = error_rate(chosen, [whole.text])
            print(
                f"{order:<9} {name:<13} {parts:>7.2%}  {joined:>7.2%}  {joined - parts:>+10.2%}"
                f"  {len(whole.segments):>6}",
                flush=True,
            )


def measure(hours: Sequence[float], options: Sequence[object], folder: Path) -> None:
    """Print time and memory of ``asr transcribe`` for recordings of several lengths."""
    print("hours  wall/s   CPU/s  x real time  x of CPU time  peak/MB", flush=True)
    for count in hours:
        repeat(folder / "joined.wav", folder / "long.wav", 3600 * count)
        used = usage_of(["transcribe", folder / "long.wav", *options])
        print(
            f"{count:>5g} {used.seconds:>7.0f} {used.cpu_seconds:>7.0f}"
            f" {3600 * count / used.seconds:>12.0f} {3600 * count / used.cpu_seconds:>14.0f}"
            f" {used.peak_bytes / 1e6:>8.0f}",
            flush=True,
        )


def measure_jobs(utterances: Sequence[Utterance], options: Sequence[object], folder: Path) -> None:
    """Print the time of all recordings by one process with all threads, and by several."""
    paths = [utterance.audio for utterance in utterances]
    seconds = sum(utterance.duration for utterance in utterances)
    print("jobs  wall/s   CPU/s  x real time", flush=True)
    for jobs in (1, os.cpu_count() or 2):
        output = folder / f"by-{jobs}"
        used = usage_of(["transcribe", *paths, "--output-dir", output, "--jobs", jobs, *options])
        print(
            f"{jobs:>4} {used.seconds:>7.0f} {used.cpu_seconds:>7.0f}"
            f" {seconds / used.seconds:>12.0f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--take-every", type=int, default=1, help="of the recordings")
    parser.add_argument("--decoder", help="that of the model if not given")
    parser.add_argument("--hours", type=float, nargs="*", default=[0.5, 2, 10])
    parser.add_argument("--only", choices=["words", "memory", "jobs"])
    options = parser.parse_args()
    utterances = read_manifest(options.manifest)[:: options.take_every]
    decoding = ["--decoder", options.decoder] if options.decoder else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.only in (None, "words"):
            compare(utterances, options.decoder, folder)
        if options.only in (None, "memory"):
            join(utterances, folder / "joined.wav", MOST_PAUSE, NOISE)
            measure(options.hours, decoding, folder)
        if options.only in (None, "jobs"):
            measure_jobs(utterances, decoding, folder)


if __name__ == "__main__":
    main()
