"""The Ray recipe with two local workers that die in the middle of their work."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from babble import write_babbler, write_tones
from recipe_scripts import load_recipe

from asr.data.manifest import Utterance, write_manifest
from asr.transcriber import Transcriber

RECIPE = Path(__file__).parents[1] / "recipes" / "distributed"

# One worker is killed before it writes its first part, one when it has just written a part.
MORTAL = """
import os
import sys
from pathlib import Path
from typing import Any

import transcribe_ray

GRAVES = Path({graves!r})


def die_once(name):
    try:
        (GRAVES / name).touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), 9)


class Mortal(transcribe_ray.Worker):
    def __call__(self, batch):
        die_once("before")
        result = super().__call__(batch)
        die_once("after")
        return result


Mortal.__module__ = "__main__"  # travels to the workers as it is
transcribe_ray.Worker = Mortal
sys.exit(transcribe_ray.main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a model and a manifest of nine recordings, one of them damaged."""
    write_babbler(tmp_path / "babbler.asr")
    utterances = []
    for number in range(9):
        path = write_tones(tmp_path / f"{number}.wav", 1.0 + number / 10, seed=number)
        utterances.append(Utterance(f"id-{number}", path, 1.0 + number / 10, "", ""))
    (tmp_path / "4.wav").write_text("no sound")
    write_manifest(tmp_path / "all.jsonl", utterances)
    return tmp_path


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    arguments = [str(folder / "all.jsonl"), "-o", str(folder / "out.jsonl"), "--batch", "2"]
    path = os.pathsep.join([str(RECIPE), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    return subprocess.run(
        [sys.executable, *command, *arguments, "--model", str(folder / "babbler.asr")],
        env=os.environ | {"PYTHONPATH": path},  # the workers inherit it
        capture_output=True,
        text=True,
    )


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.timeout(1800)  # on a busy machine Ray takes minutes to start
def test_workers_die_and_nothing_is_lost_or_doubled(folder: Path) -> None:
    pytest.importorskip("ray", reason="needs ray: pip install -e '.[ray]'")
    graves = folder / "graves"
    graves.mkdir()
    script = folder / "mortal.py"
    script.write_text(MORTAL.format(graves=str(graves)))
    result = run(folder, str(script))
    assert result.returncode == 1, result.stderr
    assert {grave.name for grave in graves.iterdir()} == {"before", "after"}, result.stderr
    assert "4.wav" in result.stderr
    rows = rows_of(folder)
    assert [row["id"] for row in rows] == [f"id-{number}" for number in range(9)]
    transcriber = Transcriber.load(folder / "babbler.asr")
    for number, row in enumerate(rows):
        if number == 4:
            assert "4.wav" in row["error"]
        else:
            assert row["text"] == transcriber.transcribe(folder / f"{number}.wav").text
    assert not (folder / "out.jsonl.parts").exists()

    write_tones(folder / "4.wav", 1.4, seed=4)  # mended: it alone is missing
    before = (folder / "out.jsonl").read_bytes().splitlines()
    again = run(folder, str(RECIPE / "transcribe_ray.py"))
    assert again.returncode == 0, again.stderr
    assert "8 of 9 utterances are done already" in again.stderr
    after = (folder / "out.jsonl").read_bytes().splitlines()
    assert [number for number in range(9) if before[number] != after[number]] == [4]


def test_what_is_done_is_not_done_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("distributed/transcribe_ray.py")
    output, parts = folder / "out.jsonl", folder / "out.jsonl.parts"
    done = [{"id": f"id-{number}", "text": f"text {number}"} for number in (0, 2, 4)]
    recipe.write_rows(output, [*done[:2], {"id": "gone", "text": "no longer in the manifest"}])
    recipe.write_rows(parts / "a.jsonl", [done[2], {"id": "id-5", "error": "5.wav: damaged"}])
    (parts / "b.jsonl.123.partial").write_text("{")  # left by a worker that died
    asked = []

    def transcribe(utterances: list[Utterance], parts: Path, **settings: Any) -> None:
        asked.extend(utterance.id for utterance in utterances)
        rows = [{"id": utterance.id, "text": "new"} for utterance in utterances]
        recipe.write_rows(parts / "0.jsonl", rows)

    monkeypatch.setattr(recipe, "transcribe", transcribe)
    command = ["transcribe_ray.py", str(folder / "all.jsonl"), "-o", str(output)]
    monkeypatch.setattr("sys.argv", command)
    assert recipe.main() == 0
    assert asked == [f"id-{number}" for number in (1, 3, 5, 6, 7, 8)]
    texts = [row["text"] for row in rows_of(folder)]
    assert texts == ["text 0", "new", "text 2", "new", "text 4", *["new"] * 4]
    assert not parts.exists()
    asked.clear()
    assert recipe.main() == 0
    assert asked == []


def test_another_recording_of_the_same_name_is_not_done(folder: Path) -> None:
    recipe = load_recipe("distributed/transcribe_ray.py")
    utterances = [Utterance("a", folder / "0.wav", 1.0, "", "")]
    rows = [
        {"id": "a", "path": str(folder / "1.wav"), "text": "of another"},
        {"id": "a", "path": str(folder / "0.wav"), "error": "0.wav: damaged"},
    ]
    for at, order in enumerate((rows, rows[::-1])):
        recipe.write_rows(folder / f"{at}.jsonl", order)
        assert recipe.read_rows([folder / f"{at}.jsonl"], utterances) == {"a": rows[1]}


def test_a_worker_leaves_a_finished_part_alone(folder: Path) -> None:
    recipe = load_recipe("distributed/transcribe_ray.py")
    worker = recipe.Worker(folder / "parts", folder / "babbler.asr", "cpu")
    batch = {"part": "0.jsonl", "utterances": json.dumps([["a"], [str(folder / "0.wav")]])}
    worker(batch)
    part = folder / "parts" / "0.jsonl"
    first = part.stat().st_mtime_ns, part.read_text("utf-8")
    (folder / "0.wav").unlink()
    worker(batch)
    assert (part.stat().st_mtime_ns, part.read_text("utf-8")) == first
    row = json.loads(first[1])
    assert row["id"] == "a"
    assert row["text"]


def test_without_ray_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    recipe = load_recipe("distributed/transcribe_ray.py")
    command = ["transcribe_ray.py", str(folder / "all.jsonl"), "-o", str(folder / "out.jsonl")]
    monkeypatch.setattr("sys.argv", command)
    assert recipe.main() == 1
    assert "pip install -e '.[ray]'" in capsys.readouterr().err
    assert not (folder / "out.jsonl").exists()
