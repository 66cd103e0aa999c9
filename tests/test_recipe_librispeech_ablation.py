"""The ablation: a run for each change, each row once, on tones."""

import json
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from babble import babbler_in_phones, write_babbler
from recipe_scripts import load_recipe
from tones import SAMPLE_RATE, write_corpus

from asr.bundle import load_bundle
from asr.data.manifest import read_manifest
from asr.lm.arpa import write_arpa
from asr.lm.ngram import encode_text, estimate

RECIPE = Path(__file__).parents[1] / "recipes" / "librispeech"
ABLATION = RECIPE / "ablation.py"

CONFIG = """
seed_everything: 7
data:
  train: [{train}]
  val: [{val}]
  features: {{sample_rate: {rate}, n_fft: 256, win_length: 200, hop_length: 80, n_mels: 16}}
  num_workers: 0
model:
  encoder: {{hidden_size: 8, num_layers: 1, conv_channels: 2}}
trainer:
  accelerator: cpu
  enable_progress_bar: false
"""
CHANGES = """
baseline: {}
GRU, 12 units: {model.encoder.cell: gru, model.encoder.hidden_size: 12}
one speed: {data.augment.speeds: [1.0]}
"""
ROWS = ("baseline", "one-speed")


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(RECIPE)  # for what lies beside it
    return load_recipe("librispeech/ablation.py")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    train = write_corpus(tmp_path, "train", 6)
    val = write_corpus(tmp_path, "val", 3, seed=1)
    (tmp_path / "tiny.yaml").write_text(CONFIG.format(train=train, val=val, rate=SAMPLE_RATE))
    (tmp_path / "changes.yaml").write_text(CHANGES)
    sentences = [utterance.text.split() for utterance in read_manifest(train)]
    write_arpa(tmp_path / "lm.arpa.gz", estimate(encode_text(sentences), 2))
    return tmp_path


def run(corpus: Path, *options: str) -> subprocess.CompletedProcess[str]:
    files = {"config": "tiny.yaml", "changes": "changes.yaml", "lm": "lm.arpa.gz", "output": "out"}
    command = [sys.executable, "-W", "ignore", str(ABLATION)]
    for option, name in files.items():
        command += [f"--{option}", str(corpus / name)]
    return subprocess.run(
        [*command, "--trainer.max_epochs", "1", *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_each_change_is_trained_once_and_has_its_row(corpus: Path) -> None:
    general = ["--model.encoder.cell", "lstm"]  # yields to a change of the same
    first = run(corpus, "--only", "baseline", "GRU, 12 units", *general)
    assert first.returncode == 0, first.stderr[-3000:]
    table = (corpus / "out" / "RESULTS.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:4]]
    assert [row[0] for row in rows] == ["baseline", "GRU, 12 units"]
    for row, name in zip(rows, ("baseline", "GRU-12-units"), strict=True):
        folder = corpus / "out" / name
        model = load_bundle(folder / "model.asr").model
        assert row[1] == f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}"
        report = json.loads((folder / "greedy" / "report.json").read_text())
        assert row[3].startswith(f"{100 * report['wer']:.2f} (")
        report = json.loads((folder / "beam" / "report.json").read_text())
        assert row[5].startswith(f"{100 * report['wer']:.2f} (")
        assert re.fullmatch(r"([0-9a-f]{7,}(-dirty)?|no git), 7", row[6])
    assert model.encoder_config.cell == "gru" and model.encoder_config.hidden_size == 12
    assert re.search(r"^Measured on (1 thread of a CPU \(.+\)|NVIDIA.*);", table, re.MULTILINE)

    made = (corpus / "out" / "baseline" / "model.asr").stat().st_mtime_ns
    again = run(corpus, "--only", "baseline")
    assert again.returncode == 0, again.stderr[-3000:]
    assert "train.py" not in again.stderr and table in again.stdout
    assert (corpus / "out" / "baseline" / "model.asr").stat().st_mtime_ns == made


@pytest.fixture
def trained(corpus: Path) -> Path:
    """Return where the corpus is, with rows that seem to be trained already."""
    for name in ROWS:
        run = corpus / "out" / name
        (run / "tensorboard" / "version_0").mkdir(parents=True)
        (run / "tensorboard" / "version_0" / "config.yaml").write_text("seed_everything: 7")
        (run / "training.json").write_text('{"seconds": 60, "commit": "abc"}')
        write_babbler(run / "model.asr")
    return corpus


def write_sounds(corpus: Path) -> Path:
    """Write a dictionary in which each letter is a phone."""
    words = {word for u in read_manifest(corpus / "train.jsonl") for word in u.text.split()}
    lines = [f"{word} {' '.join(letter * 2 for letter in word)}\n" for word in sorted(words)]
    (corpus / "sounds.dict").write_text("".join(lines))
    return corpus / "sounds.dict"


def test_rows_that_were_measured_otherwise_are_measured_anew(trained: Path) -> None:
    def rows(*options: str) -> list[str]:
        done = run(trained, *options)
        assert done.returncode == 0, done.stderr[-3000:]
        table = (trained / "out" / "RESULTS.md").read_text()
        return [line.split("|")[1].strip() for line in table.splitlines() if "abc, 7" in line]

    def reports() -> dict[str, int]:
        found = trained.glob("out/*/*/report.json")
        return {f"{p.parts[-3]} {p.parts[-2]}": p.stat().st_mtime_ns for p in found}

    def measured(before: dict[str, int]) -> set[str]:
        return {name for name, made in reports().items() if made != before.get(name)}

    assert rows("--only", "baseline", "one speed") == ["baseline", "one speed"]
    before = reports()
    by_sound = ("--pronunciations", str(write_sounds(trained)))
    assert rows("--only", "baseline", *by_sound) == ["baseline"]
    assert measured(before) == {"baseline beam"}
    before = reports()
    write_babbler(trained / "out" / "baseline" / "model.asr")  # at another time
    assert rows("--only", "baseline", *by_sound) == ["baseline"]
    assert measured(before) == {"baseline beam", "baseline greedy"}
    before = reports()
    score = ("--score", str(trained / "train.jsonl"))
    assert rows("--only", "one speed", *score) == ["one speed"]
    assert measured(before) == {"one-speed beam", "one-speed greedy"}


def test_a_row_with_phones_is_searched_by_its_sound(trained: Path) -> None:
    write_babbler(trained / "out" / "one-speed" / "model.asr", babbler_in_phones())
    sounds = ("--pronunciations", str(write_sounds(trained)))
    done = run(trained, "--only", "baseline", "one speed", *sounds)
    assert done.returncode == 0, done.stderr[-3000:]
    beams = [load_bundle(trained / "out" / row / "beam" / "model.asr") for row in ROWS]
    assert [bundle.pronunciations is not None for bundle in beams] == [False, True]


def test_a_damaged_clock_is_one_line_that_helps(trained: Path) -> None:
    clock = trained / "out" / "baseline" / "training.json"
    clock.write_text('{"seconds": 6')
    done = run(trained, "--only", "baseline")
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"ablation: error: {clock}: is damaged; write ")
    assert "Traceback" not in done.stderr
    clock.write_text(line[line.index("{") : line.index("}") + 1])
    assert run(trained, "--only", "baseline").returncode == 0


def test_a_change_that_is_not_listed_is_one_line(corpus: Path) -> None:
    done = run(corpus, "--only", "LSTM")
    assert done.returncode == 2
    assert "changes.yaml has no 'LSTM'; it has baseline" in done.stderr.splitlines()[-1]
    assert not (corpus / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("tiny.yaml", "data: [", "tiny.yaml: is no YAML: "),
        ("changes.yaml", "", "changes.yaml: names no settings"),
        ("tiny.yaml", "data: {train: [a.jsonl]}", "choose one by --score: .* validates on"),
    ],
)
def test_settings_that_are_none_are_one_line(
    corpus: Path,
    recipe: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str,
    line: str,
) -> None:
    (corpus / name).write_text(content)
    files = {"config": "tiny.yaml", "changes": "changes.yaml", "lm": "lm.arpa.gz", "output": "out"}
    options = [f"--{option}={corpus / file}" for option, file in files.items()]
    monkeypatch.setattr(sys, "argv", [str(ABLATION), *options])
    with nullcontext() if "score" not in line else pytest.raises(SystemExit):
        assert recipe.main() == 1
    assert re.search(f"error: .*{line}", capsys.readouterr().err.splitlines()[-1])
    assert not (corpus / "out").exists()


def test_a_change_is_given_as_the_training_reads_it(recipe: ModuleType) -> None:
    change = {"a": None, "b": [1.0], "c": False, "d": "gru", "e": 3}
    assert recipe.arguments_of(change) == ["--a=null", "--b=[1.0]", "--c=false", "--d=gru", "--e=3"]


def test_a_row_without_a_logger_has_no_seed(trained: Path) -> None:
    (trained / "out/baseline/tensorboard/version_0/config.yaml").unlink()
    done = run(trained, "--only", "baseline")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "abc, unknown |" in done.stdout


def test_what_cannot_be_read_is_one_line_before_any_training(corpus: Path) -> None:
    (corpus / "lm.arpa.gz").write_text("no model")
    done = run(corpus)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("ablation: error: ") and "lm.arpa.gz" in line
    assert not (corpus / "out").exists()


def test_a_training_that_fails_ends_the_ablation(corpus: Path) -> None:
    done = run(corpus, "--model.encoder.cell", "perceptron")
    assert done.returncode == 2
    assert not (corpus / "out" / "RESULTS.md").exists()


def test_every_listed_change_is_one_that_the_training_takes(recipe: ModuleType) -> None:
    changes = yaml.safe_load((RECIPE / "conf" / "ablation.yaml").read_text()).values()
    options = [option for row in changes for option in recipe.arguments_of(row)]
    done = subprocess.run(
        [sys.executable, str(RECIPE / "train.py"), *options, "--print_config"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
