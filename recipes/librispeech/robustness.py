"""Measure how a model bears noise, a telephone's band, MP3, faint and stereo recordings.

    python recipes/librispeech/robustness.py dev-clean.jsonl --noise data/noise/held_out

transcribes a manifest and distorted copies of it and prints a Markdown table: word error rates with
95 % intervals, and how much they grow. Then words a minute where nobody speaks: in silence, in the
noise alone, and in any other folders.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from asr.audio import load_audio
from asr.augment import add_noise, random_generator, through_mp3
from asr.data.dataset import load_noise, noise_files
from asr.data.manifest import Utterance, read_manifest
from asr.errors import AsrError
from asr.scoring.report import Report, score
from asr.scoring.utterances import score_utterance
from asr.transcriber import Transcriber

Audio = NDArray[np.float32]
RATE = 16_000
SNR_DB = 10.0
MP3_KBPS = 24.0
HISS_DB = [-np.inf, -80, -70, -60, -50]  # of full scale; the first is nothing but zeros


def noisy(files: list[Path]) -> Callable[[int, Audio], tuple[Audio, int]]:
    """Return what adds a noise drawn for each utterance."""

    def distort(number: int, audio: Audio) -> tuple[Audio, int]:
        generator = random_generator(number)
        file = files[int(torch.randint(len(files), (), generator=generator))]
        return mix(audio, load_noise(file, RATE), generator)

    return distort


def white_noise(number: int, audio: Audio) -> tuple[Audio, int]:
    """Add white noise."""
    generator = random_generator(number)
    return mix(audio, torch.randn(len(audio), generator=generator), generator)


def mix(audio: Audio, noise: torch.Tensor, generator: torch.Generator) -> tuple[Audio, int]:
    """Add noise without clipping."""
    mixed = add_noise(torch.from_numpy(audio), noise, SNR_DB, generator)
    return (mixed / max(1.0, float(mixed.abs().max()))).numpy(), RATE


def telephone(_: int, audio: Audio) -> tuple[Audio, int]:
    """Resample to 8 kHz."""
    narrow: Audio = soxr.resample(audio, RATE, 8_000)
    return narrow, 8_000


def faint(_: int, audio: Audio) -> tuple[Audio, int]:
    """Lower by 20 dB."""
    return np.float32(0.1) * audio, RATE


def stereo(_: int, audio: Audio) -> tuple[Audio, int]:
    """Resample to 44.1 kHz and double."""
    wide = soxr.resample(audio, RATE, 44_100)
    return np.stack([wide, wide], axis=1), 44_100


def mp3(_: int, audio: Audio) -> tuple[Audio, int]:
    """Send through MP3 of few bits."""
    return through_mp3(torch.from_numpy(audio), RATE, MP3_KBPS).numpy(), RATE


def copies(
    utterances: list[Utterance],
    distort: Callable[[int, Audio], tuple[Audio, int]],
    folder: Path,
) -> list[Utterance]:
    """Write a distorted copy of every utterance as 16-bit FLAC."""
    made = []
    for number, utterance in enumerate(utterances):
        audio, rate = distort(number, load_audio(utterance.audio, RATE))
        path = folder / f"{number}.flac"
        soundfile.write(path, audio, rate, "PCM_16")
        made.append(replace(utterance, audio=path))
    return made


def silences(folder: Path) -> list[Path]:
    """Write recordings of 20 seconds of silence: digital, and with a microphone's hiss."""
    made = []
    for number, level in enumerate(HISS_DB):
        hiss = torch.randn(20 * RATE, generator=random_generator(number)).numpy()
        made.append(folder / f"{number}.flac")
        soundfile.write(made[-1], 10 ** (level / 20) * hiss, RATE, "PCM_16")
    return made


def measure(transcriber: Transcriber, utterances: list[Utterance]) -> Report:
    """Transcribe and score.

    Raises:
        AsrError: a recording cannot be read.
    """
    scored = []
    results = transcriber.transcribe_many([utterance.audio for utterance in utterances])
    for utterance, result in zip(utterances, results, strict=True):
        if isinstance(result, AsrError):
            raise result
        scored.append(
            score_utterance(utterance.id, utterance.text, result.text, speaker=utterance.speaker)
        )
    return score(scored)


def words_a_minute(transcriber: Transcriber, files: list[Path]) -> float:
    """Return how many words are heard in recordings without any."""
    words, seconds = 0, 0.0
    for result in transcriber.transcribe_many(files):
        if isinstance(result, AsrError):
            raise result
        words += len(result.words)
        seconds += result.duration
    return 60 * words / seconds


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path, help="utterances to distort")
    parser.add_argument("--noise", type=Path, required=True, help="folder of noise recordings")
    parser.add_argument(
        "--speechless",
        type=Path,
        nargs="+",
        default=[],
        help="folders in which nobody speaks either",
    )
    parser.add_argument("--model", type=Path, help="bundle; the packaged one if not given")
    parser.add_argument("--decoder", choices=["greedy", "beam"], help="as the bundle has it")
    parser.add_argument("--every", type=int, default=1, help="take every n-th utterance")
    options = parser.parse_args()
    if options.every < 1:
        parser.error(f"--every {options.every} is not 1 or more")
    try:
        utterances = read_manifest(options.manifest)[:: options.every]
        speechless = {
            folder: noise_files(folder) for folder in [options.noise, *options.speechless]
        }
        settings = {"method": options.decoder} if options.decoder else {}
        transcriber = Transcriber.load(options.model, **settings)
        print("| recordings | WER | CER | WER, relative |\n|---|---|---|---|")
        clean = measure(transcriber, utterances)
        print(row("as they are", clean, clean), flush=True)
        for name, distort in {
            f"noise at {SNR_DB:.0f} dB": noisy(speechless[options.noise]),
            f"white noise at {SNR_DB:.0f} dB": white_noise,
            "8 kHz": telephone,
            f"MP3 of {MP3_KBPS:.0f} kbit/s": mp3,
            "20 dB fainter": faint,
            "44.1 kHz, stereo": stereo,
        }.items():
            with tempfile.TemporaryDirectory() as folder:
                distorted = copies(utterances, distort, Path(folder))
                print(row(name, measure(transcriber, distorted), clean), flush=True)
        print()
        with tempfile.TemporaryDirectory() as folder:
            quiet = {"silence": silences(Path(folder))}
            for name, files in (*quiet.items(), *speechless.items()):
                rate = words_a_minute(transcriber, files)
                print(f"{name}: {rate:.1f} words a minute in {len(files)} recordings", flush=True)
    except (AsrError, OSError, soundfile.LibsndfileError) as error:
        print(f"robustness: error: {error}", file=sys.stderr)
        return 1
    return 0


def row(name: str, report: Report, clean: Report) -> str:
    """Return a line of the table."""
    low, high = report.wer_ci
    growth = report.wer / clean.wer - 1 if clean.wer else float("nan")
    return (
        f"| {name} | {report.wer:.2%} ({low:.2%} to {high:.2%}) | {report.cer:.2%} "
        f"| {growth:+.1%} |"
    )


if __name__ == "__main__":
    sys.exit(main())
