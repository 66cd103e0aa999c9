"""The LibriSpeech recipe from an unpacked tree to the table, on tones in LibriSpeech's layout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from babble import write_babbler, write_tones
from recipe_scripts import load_recipe
from tones import SAMPLE_RATE, speak

from asr.bundle import load_bundle
from asr.data.manifest import Utterance, write_manifest
from asr.lm.word_model import WordModel
from asr.text import ENGLISH

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

    (root / "novel.txt").write_text("A bad cab. A cab!\n" * 9)
    for _ in range(2):
        done = run(root, "--text", str(root / "novel.txt"))
        assert done.returncode == 0, done.stderr[-3000:]
    assert "language model: done already" in done.stderr
    os.utime(root / "manifests" / "dev-clean-2.jsonl")  # the weights were found on another
    tuned = run(root, "--text", str(root / "novel.txt"))
    assert tuned.returncode == 0 and "language model: done already" not in tuned.stderr
    (root / "other.txt").write_text("A dad. A fad!\n" * 9)
    os.utime(root / "other.txt", (0, 0))  # older than what was made of another text
    other = run(root, "--text", str(root / "other.txt"))
    assert other.returncode == 0 and "language model: done already" not in other.stderr
    assert "FAD" in WordModel(root / "run" / "lm" / "lm.klm", ENGLISH).words
    assert run(root, "--text", str(root / "novel.txt")).returncode == 0
    bundle = load_bundle(root / "run" / "lm" / "model.asr")
    assert bundle.language_model and bundle.decoder.method == "beam"
    assert "| dev-clean-2 | 6 |" in (root / "run" / "lm" / "RESULTS.md").read_text()
    assert (root / "run" / "model.asr").stat().st_mtime_ns == model
    with (root / "manifests" / "train-clean-5.jsonl").open() as lines:  # its texts are in it
        words = {word for line in lines for word in json.loads(line)["text"].split()}
    ngrams = WordModel(root / "run" / "lm" / "lm.klm", ENGLISH)
    assert set(ngrams.words) >= words | {"BAD", "CAB"}


def test_a_failing_stage_ends_the_run(root):
    done = run(root, "--model.encoder.cell", "perceptron")
    assert done.returncode == 2
    assert "perceptron" in done.stderr
    assert not (root / "run" / "decode").exists()


def test_options_of_the_training_are_not_taken_for_short_ones(root):
    done = run(root, "--data", "other.yaml")
    assert done.returncode
    [training] = [
        line for line in done.stderr.splitlines() if line.startswith("$") and "train.py" in line
    ]
    assert training.endswith("--data.pronunciations=null --data other.yaml")


@pytest.mark.parametrize("option", ["--config", "--text"])
def test_a_file_that_is_not_there_is_one_line(root, option):
    done = run(root, option, "mini.yml")
    assert done.returncode == 2
    assert "mini.yml: no such file" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "config",
    ["", "data: {train: [a.jsonl]}", "data: [", "run_dir: run", "data: {train: 5, val: 5}"],
)
def test_a_config_that_lacks_what_a_run_needs_is_one_line(root, config):
    (root / "tiny.yaml").write_text(config)
    done = run(root)
    assert done.returncode == 2
    assert "tiny.yaml: needs run_dir, data.train and data.val" in done.stderr.splitlines()[-1]


def test_two_manifests_of_the_same_name_are_one_line(root):
    manifests = [str(root / part / "all.jsonl") for part in ("train", "val")]
    config = CONFIG.replace("train-clean-5.jsonl", manifests[0])
    (root / "tiny.yaml").write_text(config.replace("dev-clean-2.jsonl", manifests[1]))
    done = run(root)
    assert done.returncode == 2
    assert f"{' and '.join(manifests)} would both be called all" in done.stderr.splitlines()[-1]


@pytest.fixture
def decoded(tmp_path, monkeypatch):
    """Return a run of a babbler, and what decodes manifests of one recording by it."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_babbler(folder / "model.asr")
    write_tones(tmp_path / "good.wav", 1.0)
    recipe = load_recipe("librispeech/decode.py")

    def decode(*manifests):
        for path in manifests:
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                audio = tmp_path / f"{path.stem}.wav"
                write_manifest(path, [Utterance(path.stem, audio, 1.0, "ABC DE")])
        monkeypatch.setattr(sys, "argv", ["decode.py", str(folder), *map(str, manifests)])
        return recipe.main()

    return folder, decode


def test_results_are_kept_only_while_whole_and_newer_than_model_and_manifest(decoded, capsys):
    run, decode = decoded
    manifest, results = run.parent / "good.jsonl", run / "decode" / "good"
    page = results / "report.html"

    def is_kept():
        assert decode(manifest) == 0
        assert {path.suffix for path in results.iterdir()} == {".html", ".json", ".jsonl"}
        return "decoded already" in capsys.readouterr().err

    assert not is_kept() and is_kept()
    for source in (run / "model.asr", manifest):
        os.utime(source, ns=(page.stat().st_mtime_ns,) * 2)
        assert not is_kept() and is_kept()
    page.unlink()  # as if interrupted while it was written
    assert not is_kept() and is_kept()


def test_a_recording_that_cannot_be_read_fails_until_it_can(decoded, capsys):
    run, decode = decoded
    bad = run.parent / "bad.wav"
    bad.write_text("no sound")
    for _ in range(2):
        assert decode(run.parent / "bad.jsonl") == 1
        assert "bad.wav" in capsys.readouterr().err
    write_tones(bad, 1.0)
    assert decode(run.parent / "bad.jsonl") == 0


def test_results_of_the_same_name_are_one_line_before_any_decoding(decoded, capsys):
    run, decode = decoded
    manifests = [run.parent / part / "good.jsonl" for part in ("a", "b")]
    assert decode(*manifests) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("decode: error: ") and "would both be called good" in line
    assert not (run / "decode").exists()


def test_the_table_has_no_results_of_a_model_before(decoded):
    run, decode = decoded
    assert decode(run.parent / "good.jsonl") == 0
    report = run / "decode" / "good" / "report.json"
    old = run / "decode" / "old" / "report.json"
    old.parent.mkdir()
    old.write_bytes(report.read_bytes())
    made = (run / "model.asr").stat().st_mtime_ns

    def table():
        command = [sys.executable, str(RUN.with_name("evaluate.py")), str(run)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    os.utime(old, ns=(made - 1, made - 1))
    done = table()
    assert done.returncode == 0, done.stderr
    assert "| good |" in done.stdout and "| old |" not in done.stdout
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{old}: older than ")


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
