"""Several processes: the same results, whatever becomes of a process."""

import errno
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
import torch
from babble import babbling_model, write_tones

from asr.errors import AudioError, AudioWarning, BundleError, ConfigError
from asr.transcriber import Transcriber, Transcript
from asr.workers import transcribe_in_processes

JOBS = 2


@pytest.mark.skipif(sys.platform == "win32", reason="has no masks")
def test_the_first_child_is_deaf_to_ctrl_c_too(tmp_path: Path) -> None:
    script = tmp_path / "first.py"
    script.write_text(
        "import multiprocessing, signal, sys\n"
        "from asr.interrupts import deaf_to_ctrl_c\n"
        "def child():\n"
        "    sys.exit(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
        "if __name__ == '__main__':\n"
        "    process = multiprocessing.get_context('spawn').Process(target=child)\n"
        "    with deaf_to_ctrl_c():\n"
        "        process.start()\n"
        "    process.join()\n"
        "    print(process.exitcode)\n"
    )
    found = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert found.stdout == "1\n"


def load() -> Transcriber:
    return Transcriber(babbling_model(), torch.device("cpu"))


class Mortal(Transcriber):
    """Dies when it is given a recording of that name, as if for want of memory."""

    marker: Path | None  # left behind by the first death; there is no second one

    def transcribe_many(self, paths: Any, *arguments: Any, **settings: Any) -> Iterator[Any]:
        for path in paths:
            if "deadly" in str(path) and not (self.marker and self.marker.exists()):
                if self.marker:
                    self.marker.touch()
                os._exit(9)
            yield from super().transcribe_many([path], *arguments, **settings)


def load_mortal(marker: Path | None) -> Transcriber:
    transcriber = Mortal(babbling_model(), torch.device("cpu"))
    transcriber.marker = marker
    return transcriber


def load_badly() -> Transcriber:
    raise BundleError("model.asr: is damaged")


def load_in_vain() -> Transcriber:
    raise PermissionError(errno.EACCES, "Permission denied", "model.asr")


def die() -> Transcriber:
    os._exit(9)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recordings")
    names = ["a", "b", "deadly", "c", "d", "e", "f", "g", "h", "i", "j", "k"]
    lengths = [1.0, 40.0, 2.0, 0.5, 70.0, 3.0, 1.0, 2.0, 0.7, 0.8, 0.9, 1.1]
    return [
        write_tones(folder / f"{name}.wav", seconds, seed)
        for seed, (name, seconds) in enumerate(zip(names, lengths, strict=True))
    ]


def run(load: Callable[[], Transcriber], paths: list[Path], **settings: Any) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for number, result in transcribe_in_processes(load, paths, JOBS, **settings):
        assert number not in found
        found[number] = result
    assert not active_children()
    return dict(sorted(found.items()))


def texts(results: Any) -> list[str | None]:
    return [result.text if isinstance(result, Transcript) else None for result in results]


def test_they_find_what_one_finds(paths: list[Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.wav"
    cut.write_bytes(paths[5].read_bytes()[:40_000])
    given = [*paths, tmp_path / "gone.wav", cut]
    done: list[float] = []
    segments: list[list[str]] = [[] for _ in given]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = run(
            load,
            given,
            on_progress=done.append,
            on_segment=lambda number, segment: segments[number].append(segment.text),
        )
        alone = list(load().transcribe_many(given))
    assert list(found) == list(range(len(given)))
    assert texts(found.values()) == texts(alone)
    assert isinstance(found[12], AudioError)
    assert "gone.wav" in str(found[12])
    assert [warning.category for warning in caught] == [AudioWarning] * 2
    assert str(caught[0].message) == str(caught[1].message)
    assert sum(done) == pytest.approx(
        sum(result.duration for result in alone if result is not alone[12])
    )
    assert [" ".join(part) or None for part in segments] == texts(alone)


def test_a_recording_that_killed_a_process_is_tried_elsewhere(
    paths: list[Path], tmp_path: Path
) -> None:
    found = run(partial(load_mortal, tmp_path / "died"), paths)
    assert texts(found.values()) == texts(load().transcribe_many(paths))


def test_a_recording_that_always_kills_is_named_and_the_rest_is_done(paths: list[Path]) -> None:
    found = run(partial(load_mortal, None), paths)
    expected = texts(load().transcribe_many(paths))
    expected[2] = None
    assert texts(found.values()) == expected
    assert isinstance(found[2], ConfigError)
    assert "deadly.wav: 2 processes died over it" in str(found[2])


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_nothing_is_lost_when_a_process_is_killed_midway(paths: list[Path]) -> None:
    given = paths * 4
    results = transcribe_in_processes(load, given, JOBS)
    found = [next(results)]
    for child in active_children()[:1]:
        child.kill()
    found += results
    expected = texts(load().transcribe_many(paths)) * 4
    assert texts(result for _, result in sorted(found, key=lambda pair: pair[0])) == expected


def test_a_model_that_cannot_be_loaded_is_an_error(paths: list[Path]) -> None:
    with pytest.raises(BundleError, match=r"model\.asr: is damaged"):
        run(load_badly, paths)
    with pytest.raises(PermissionError, match=r"model\.asr"):
        run(load_in_vain, paths)
    with pytest.raises(ConfigError, match="died while they loaded the model"):
        run(die, paths)
    assert not active_children()


def test_breaking_off_ends_the_processes(paths: list[Path]) -> None:
    results = transcribe_in_processes(load, paths, JOBS)
    next(results)
    assert len(active_children()) == JOBS
    results.close()  # type: ignore[attr-defined]
    assert not active_children()


def test_no_recordings_no_processes() -> None:
    assert run(die, []) == {}
