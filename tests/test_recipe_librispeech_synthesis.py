"""Synthesised speech, with stand-ins for the synthesisers that write and return tones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from asr.audio import audio_duration, load_audio
from asr.data.manifest import read_manifest

RECIPE = Path(__file__).parents[1] / "recipes" / "librispeech" / "synthesis.py"

# Seconds per letter, so that the length of a recording tells how fast it was read.
FLITE = f"""#!{sys.executable}
import sys
import numpy, soundfile
options = sys.argv[1:]
stretch, pitch = (options[n + 1].split("=")[1] for n, o in enumerate(options) if o == "--setf")
text = options[options.index("-t") + 1]
assert text == text.lower() and 60 < float(pitch) < 250
if "refuse" in text:
    sys.exit("no such word")
samples = numpy.zeros(int(1600 * len(text) * float(stretch)))
soundfile.write(options[options.index("-o") + 1], samples, 16000)
"""
TTSPICO = """
class TtsEngine:
    def __init__(self, voice):
        assert voice in ("en-US", "en-GB")
    def speak(self, text):
        assert text == text.lower() and 60 < self.rate < 150 and 80 <= self.pitch <= 130
        return bytes(2 * int(1600 * len(text) * 100 / self.rate))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    flite = tmp_path / "bin" / "flite"
    flite.write_text(FLITE)
    flite.chmod(0o755)
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "ttspico.py").write_text(TTSPICO)
    lines = [f"{'AN ' * (number % 7)}OLD SENTENCE" for number in range(40)]
    (tmp_path / "text.txt").write_text("\n".join(["LONG " * 37, "TOO SHORT", "I AM KNOWN", *lines]))
    known = '{"audio_filepath": "a.wav", "duration": 1, "text": "I AM KNOWN"}\n'
    (tmp_path / "known.jsonl").write_text(known)
    return tmp_path


def run(folder: Path, *options: object, path: str = "bin") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(RECIPE), str(folder / "text.txt"), *map(str, options)]
    environment = os.environ | {"PATH": str(folder / path), "PYTHONPATH": str(folder / "python")}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_sentences_are_read_by_many_voices(folder: Path) -> None:
    out = folder / "out"
    options = ["--without", folder / "known.jsonl", "--output", out, "--utterances", 30]
    done = run(folder, *options)
    assert done.returncode == 0, done.stderr
    utterances = read_manifest(out / "manifest.jsonl")
    assert "30 utterances" in done.stdout and len(utterances) == 30
    assert {utterance.text for utterance in utterances} <= {
        f"{'AN ' * number}OLD SENTENCE" for number in range(1, 7)
    }
    assert len({utterance.speaker for utterance in utterances}) >= 4
    paces = set()
    for utterance in utterances:
        assert audio_duration(utterance.audio) == pytest.approx(utterance.duration)
        paces.add(round(0.1 * len(utterance.text) / utterance.duration, 2))
    # The vocal tract takes back what it did to the tempo.
    assert 0.84 <= min(paces) < 0.95 and 1.1 < max(paces) <= 1.21 and len(paces) > 15
    before = load_audio(utterances[7].audio, 16_000)
    assert run(folder, *options).returncode == 0
    assert (load_audio(utterances[7].audio, 16_000) == before).all()


def test_missing_synthesisers_are_one_line(folder: Path) -> None:
    done = run(folder, path="python")
    assert done.returncode == 1
    assert done.stderr == (
        "synthesis: error: flite is missing; install it, on Debian by: apt install flite\n"
    )
    (folder / "python" / "ttspico.py").write_text("raise ImportError")
    done = run(folder, "--output", folder / "out")
    assert done.stderr == "synthesis: error: ttspico is missing: pip install ttspico\n"


def test_a_sentence_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "text.txt").write_text("I REFUSE TO\n" * 30)
    done = run(folder, "--output", folder / "out")
    assert done.returncode == 1
    assert done.stderr == "synthesis: error: flite cannot read 'i refuse to': no such word\n"


def test_texts_of_an_earlier_run_do_not_stay_above_other_recordings(folder: Path) -> None:
    options = ["--output", folder / "out", "--utterances", 3]
    assert run(folder, *options).returncode == 0
    assert run(folder, *options, path="python").returncode == 1  # nothing was written yet
    assert (folder / "out" / "manifest.jsonl").exists()
    (folder / "text.txt").write_text("I REFUSE TO\n" * 30)
    assert run(folder, *options).returncode == 1
    assert not (folder / "out" / "manifest.jsonl").exists()
