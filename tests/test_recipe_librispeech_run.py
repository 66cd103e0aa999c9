"""The LibriSpeech recipe from an unpacked tree to the table, on tones in LibriSpeech's layout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from babble import write_babbler, write_tones
from tones import SAMPLE_RATE, speak

from asr.data.manifest import Utterance, write_manifest

ROOT = Path(__file__).parents[1]
RUN = ROOT / "recipes" / "librispeech" / "run.py"
TEXTS = ["AB CD", "A B", "DACA", "BAD CAB", "CC D", "DD AA"]

CONFIG = f"""
data:
  train: [train-clean-5.jsonl]
  val: [dev-clean-2.jsonl]
  features: {{sample_rate: {SAMPLE_RATE}, n_fft: 256, win_length: 200, hop_length: 80, n_mels: 16}}
  num_workers: 0
model:
  encoder: {{hidden_size: 8, num_layers: 1, conv_channels: 2}}
trainer:
  max_epochs: 1
  accelerator: cpu
  enable_progress_bar: false
"""


@pytest.fixture
def root(tmp_path):
    for subset in ("train-clean-5", "dev-clean-2"):
        chapter = tmp_path / "LibriSpeech" / subset / "7" / "70"
        chapter.mkdir(parents=True)
        lines = []
        for number, text in enumerate(TEXTS):
            name = f"7-70-{number:04}"
            soundfile.write(chapter / f"{name}.flac", speak(text, number), SAMPLE_RATE)
            lines.append(f"{name} {text}\n")
        (chapter / "7-70.trans.txt").write_text("".join(lines))
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return tmp_path


def run(root, *options):
    command = [sys.executable, "-W", "ignore", str(RUN), "--config", str(root / "tiny.yaml")]
    command += ["--root", str(root), "--manifests", str(root / "manifests"), *options]
    return subprocess.run(
        [*command, "--run_dir", str(root / "run")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_run_prepares_trains_decodes_and_evaluates_and_skips_what_is_done(root):
    first = run(root)
    assert first.returncode == 0, first.stderr[-3000:]
    report = json.loads((root / "run" / "decode" / "dev-clean-2" / "report.json").read_text())
    assert report["utterances"] == len(TEXTS)
    assert report["hits"] + report["substitutions"] + report["deletions"] == sum(
        len(text.split()) for text in TEXTS
    )
    table = (root / "run" / "RESULTS.md").read_text()
    assert f"{100 * report['wer']:.2f}" in table
    assert table in first.stdout

    model = (root / "run" / "model.asr").stat().st_mtime_ns
    second = run(root)
    assert second.returncode == 0, second.stderr[-3000:]
    assert "done already" in second.stderr and "decoded already" in second.stderr
    assert (root / "run" / "model.asr").stat().st_mtime_ns == model


def test_a_failing_stage_ends_the_run(root):
    done = run(root, "--model.encoder.cell", "perceptron")
    assert done.returncode == 2
    assert "perceptron" in done.stderr
    assert not (root / "run" / "decode").exists()


def test_a_config_that_is_not_there_is_one_line(root):
    done = run(root, "--config", "mini.yml")
    assert done.returncode == 2
    assert "mini.yml: no such file" in done.stderr.splitlines()[-1]


def test_decoding_goes_on_after_a_recording_that_cannot_be_read(tmp_path):
    (tmp_path / "run").mkdir()
    write_babbler(tmp_path / "run" / "model.asr")
    write_tones(tmp_path / "good.wav", 1.0)
    (tmp_path / "bad.wav").write_text("no sound")
    for name in ("bad", "good"):
        utterance = Utterance(name, tmp_path / f"{name}.wav", 1.0, "ABC DE")
        write_manifest(tmp_path / f"{name}.jsonl", [utterance])
    done = subprocess.run(
        [sys.executable, str(RUN.with_name("decode.py")), str(tmp_path / "run")]
        + [str(tmp_path / f"{name}.jsonl") for name in ("bad", "good")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert "bad.wav" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "run" / "decode" / "good" / "report.json").exists()
