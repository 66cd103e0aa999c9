"""``asr transcribe``, long recordings and many: as it comes, Ctrl-C, resuming, processes."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from babble import write_babbler, write_tones
from typer.testing import CliRunner, Result

from asr.cli.main import app
from asr.cli.outputs import Output
from asr.cli.recordings import Recording
from asr.errors import ConfigError
from asr.formats.registry import renderers
from asr.transcriber import Segment, Transcriber, Transcript

ASR = [sys.executable, "-m", "asr"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_babbler(tmp_path_factory.mktemp("model") / "babbler.asr")


@pytest.fixture(scope="module")
def transcriber(model: Path) -> Transcriber:
    return Transcriber.load(model)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for seed, seconds in enumerate([2.0, 40.0, 1.0, 3.0, 2.0]):
        write_tones(folder / f"{seed}.wav", seconds, seed)
    return folder


@pytest.fixture(scope="module")
def lecture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what takes the tiny model much longer than a test."""
    return write_tones(tmp_path_factory.mktemp("lecture") / "lecture.wav", 1200.0)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_resume_does_what_is_missing(model: Path, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = ("transcribe", folder, "--model", model, "--output-dir", output)
    assert run(*arguments, "--format", "all").exit_code == 0
    whole = {path.name: path.read_bytes() for path in output.iterdir()}
    (output / "1.srt").unlink()
    (output / "3.txt").unlink()
    (output / "0.txt").write_text("mine")
    result = run(*arguments, "--format", "all", "--resume")
    assert result.exit_code == 0
    assert result.stderr == "asr: 3 of 5 recordings were done before\n"
    whole["0.txt"] = b"mine"
    assert {path.name: path.read_bytes() for path in output.iterdir()} == whole
    again = run(*arguments, "--resume")
    assert (again.exit_code, again.stderr) == (0, "asr: 5 of 5 recordings were done before\n")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["a.wav", "--resume"], "--resume needs the --output-dir"),
        (["-", "b.wav", "--jobs", "2"], "--jobs cannot share out standard input"),
        (["a.wav", "--jobs", "0"], "greater than or equal to 1"),
        (["a.wav", "--words-per-line", "3"], "--words-per-line is for --format srt and vtt"),
        (["a.wav", "--color", "--format", "json"], "--color is for text on a terminal"),
        (["a.wav", "--color", "--output-dir", "o"], "--color is for text on a terminal"),
    ],
)
def test_misuse(arguments: list[str], message: str) -> None:
    result = run("transcribe", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_a_recording_named_twice_is_transcribed_once(model: Path, folder: Path) -> None:
    once = run("transcribe", folder, "--model", model)
    twice = run("transcribe", folder, folder / "0.wav", folder, "--model", model)
    assert twice.exit_code == 0 and twice.stdout == once.stdout
    last = sorted(folder.glob("*.wav"))[-1]
    before = run("transcribe", last, folder, last, "--model", model, "--format", "jsonl")
    paths = [Path(json.loads(line)["path"]) for line in before.stdout.splitlines()]
    assert paths[0] == last and len(set(paths)) == len(paths)


def test_recordings_of_one_name_do_not_share_a_ctm_file(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "0.wav"
    shutil.copy(folder / "0.wav", other)
    arguments = ("transcribe", folder / "0.wav", other, "--model", model, "--format", "ctm")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{other}: has the name of {folder / '0.wav'} in CTM" in result.stderr


def test_a_folder_that_takes_no_files_is_named_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    for output in (tmp_path / "taken", tmp_path / "taken" / "out"):
        result = run("transcribe", "a.wav", "--model", "none.asr", "--output-dir", output)
        assert (result.exit_code, result.stdout) == (1, "")
        [line] = result.stderr.splitlines()
        assert line.startswith(f"asr: error: {output}: cannot be written (")


def test_a_file_that_cannot_be_written_is_named(model: Path, folder: Path, tmp_path: Path) -> None:
    taken = tmp_path / "out" / "0.txt"
    taken.mkdir(parents=True)
    arguments = ("transcribe", folder / "0.wav", "--model", model)
    result = run(*arguments, "--output-dir", taken.parent)
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith(f"asr: error: {taken}: cannot be written (")
    assert list(taken.parent.iterdir()) == [taken]


def test_a_full_disk_spares_the_older_text(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    output = tmp_path / "out"
    output.mkdir()
    (output / "0.txt").write_text("old")
    monkeypatch.setattr(Path, "write_bytes", full)
    result = run("transcribe", folder / "0.wav", "--model", model, "--output-dir", output)
    assert result.exit_code == 1 and "No space left" in result.stderr
    assert {path.name: path.read_text() for path in output.iterdir()} == {"0.txt": "old"}


@pytest.mark.parametrize("format", ["txt", "json"])
def test_processes_print_in_order(model: Path, folder: Path, format: str) -> None:
    (folder / "2b.wav").write_text("no sound")
    arguments = ("transcribe", folder, "--model", model, "--format", format)
    alone, shared = run(*arguments), run(*arguments, "--jobs", 2)
    assert (shared.stdout, shared.stderr, shared.exit_code) == (alone.stdout, alone.stderr, 1)
    assert "2b.wav" in alone.stderr


class Interrupted:
    """A command that gets Ctrl-C once something is there."""

    def __init__(self, arguments: list[object], is_time: Callable[[], object] | None = None):
        with subprocess.Popen(
            [*ASR, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout and process.stderr
            first = b""
            while is_time and not is_time():
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.02)
            if not is_time:
                first = os.read(process.stdout.fileno(), 1)
            for _ in range(2):  # Python may lose one that arrives inside a callback
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=120)
                    break
            self.stdout = (first + process.stdout.read()).decode()
            self.stderr = process.stderr.read().decode()
            self.returncode = process.returncode


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let child processes hear Ctrl-C, which those of a background job ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


on_posix = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no SIGINT for a single process"
)


@on_posix
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_the_text_so_far(
    model: Path, lecture: Path, transcriber: Transcriber
) -> None:
    stopped = Interrupted(["transcribe", lecture, "--model", model, "--batch-seconds", 10])
    assert stopped.returncode == 130
    [line] = stopped.stderr.splitlines()
    assert line.startswith(f"asr: interrupted: {lecture} is done up to ")
    text = transcriber.transcribe(lecture).text
    assert stopped.stdout.endswith("\n")
    assert 1 < len(stopped.stdout) < len(text)
    assert text.startswith(stopped.stdout.rstrip("\n"))


@on_posix
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_leaves_finished_files(model: Path, lecture: Path, folder: Path, jobs: int) -> None:
    output = folder.parent / "out"
    inputs = [folder / "0.wav", lecture, folder / "1.wav"]
    arguments = [*inputs, "--model", model, "--output-dir", output, "--batch-seconds", 2]
    stopped = Interrupted(["transcribe", *arguments, "--jobs", jobs], (output / "0.txt").exists)
    assert stopped.returncode == 130
    [line] = stopped.stderr.splitlines()
    assert line.startswith("asr: interrupted: ")
    assert " of 3 recordings are done" in line
    assert line.endswith("; --resume goes on with the rest")
    written = sorted(path.name for path in output.iterdir())
    assert "0.txt" in written
    assert "lecture.txt" not in written
    assert not [name for name in written if name.endswith(".partial")]
    assert f" {len(written)} of 3" in line


def segment(start: float, text: str) -> Segment:
    return Segment(start, start + 10, text, ())


def test_what_is_done_is_printed_although_it_was_broken_off(
    capsys: pytest.CaptureFixture[str],
) -> None:
    several = [Recording(f"{name}.wav", Path(name)) for name in "abc"]
    output = Output(several, ["jsonl"], renderers())  # type: ignore[arg-type]
    output.add_segment(0, segment(3725.0, "X"))
    output.add(1, Transcript("b.wav", 5.0, "B", ()))
    assert capsys.readouterr().out == ""  # a.wav comes first
    told = output.interrupt()
    assert told == "interrupted: 1 of 3 recordings are done; a.wav had come to 1:02:15"
    assert json.loads(capsys.readouterr().out)["text"] == "B"


def test_what_is_done_is_printed_although_the_rest_cannot_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_: Any) -> Iterator[tuple[int, Transcript]]:
        yield 0, Transcript("a.wav", 5.0, "A", ())
        raise ConfigError("too much for the memory")

    monkeypatch.setattr("asr.cli.transcribe._transcribe", too_much)
    result = run("transcribe", folder / "0.wav", folder / "1.wav", "--format", "json")
    assert result.exit_code == 1 and "too much for the memory" in result.stderr
    assert [entry["text"] for entry in json.loads(result.stdout)] == ["A"]
    assert "1 of 2 recordings are done" in result.stderr


def test_a_part_of_a_single_recording_is_still_a_file_of_its_format(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = [Recording("a.wav", Path("a"))]
    output = Output(one, ["json"], renderers())  # type: ignore[arg-type]
    output.add_segment(0, segment(0.0, "X"))
    output.add_segment(0, segment(65.0, "Y"))
    assert output.interrupt() == "interrupted: a.wav is done up to 1:15"
    [entry] = json.loads(capsys.readouterr().out)
    assert (entry["text"], entry["duration"]) == ("X Y", 75.0)
    nothing = Output(one, ["txt"], renderers())  # type: ignore[arg-type]
    assert nothing.interrupt() == "interrupted: nothing is done"


def test_text_of_one_recording_comes_bit_by_bit(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output([Recording("a.wav", Path("a"))], ["txt"], renderers())  # type: ignore[arg-type]
    output.add_segment(0, segment(0.0, "ONE TWO"))
    assert capsys.readouterr().out == "ONE TWO"
    output.add_segment(0, segment(20.0, "THREE"))
    output.add(0, Transcript("a.wav", 30.0, "ONE TWO THREE", ()))
    output.finish()
    assert capsys.readouterr().out == " THREE\n"
