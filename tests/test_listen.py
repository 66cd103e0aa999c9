"""``asr listen``: PCM in dribs, partial and final text, Ctrl-C, microphones."""

import inspect
import json
import os
import queue
import signal
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from babble import write_babbler
from test_cli import ASR, interruptible, run  # noqa: F401 (a fixture)
from tones import SAMPLE_RATE, speak

from asr.cli.listen import _until, listen
from asr.cli.sources import read_pcm
from asr.streaming import Chunking, Event, Stream
from asr.transcriber import Transcriber

PAUSE = np.zeros(SAMPLE_RATE, np.float32)
SPEECH = np.concatenate([speak("ABCDCBAD" * 2), PAUSE, speak("DDAACC" * 2, seed=1)])
PCM = (SPEECH * 32767).astype("<i2").tobytes()
SHORT = ["--chunk", "0.4", "--look-ahead", "0.2"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_babbler(tmp_path_factory.mktemp("model") / "babbler.asr")


@pytest.fixture(scope="module")
def expected(model: Path) -> list[Event]:
    stream = Stream(Transcriber.load(model), SAMPLE_RATE, Chunking(0.4, 0.2))
    return stream.feed(samples_of(PCM)) + stream.finish()


def samples_of(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<i2").astype(np.float32) / 2**15


def start(model: Path, *arguments: str, **kwargs: Any) -> "subprocess.Popen[bytes]":
    command = [*ASR, "listen", "-", "--rate", str(SAMPLE_RATE), "--model", str(model), *SHORT]
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([*command, *arguments], **streams | kwargs)


def test_pcm_in_dribs_gives_every_event(model: Path, expected: list[Event]) -> None:
    process = start(model, "--format", "jsonl")
    assert process.stdin
    for at in range(0, len(PCM), 1001):  # samples are torn
        process.stdin.write(PCM[at : at + 1001])
        process.stdin.flush()
    output, errors = process.communicate(b"\x00")  # and half a sample at the end
    assert (process.returncode, errors) == (0, b"")
    events = [Event(**json.loads(line)) for line in output.splitlines()]
    assert events == expected
    assert {event.type for event in events} == {"partial", "final"}


def test_a_pipe_gets_final_text_alone(model: Path, expected: list[Event]) -> None:
    output, _ = start(model).communicate(PCM)
    finals = [event.text for event in expected if event.type == "final"]
    assert len(finals) == 2
    assert output.decode().splitlines() == finals


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for a single process")
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_gives_the_final_text_of_what_was_heard(model: Path) -> None:
    with start(model, "--format", "jsonl") as process:
        assert process.stdin and process.stdout
        process.stdin.write(PCM[: 2 * SAMPLE_RATE])
        process.stdin.flush()
        lines = [json.loads(process.stdout.readline())]
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        lines += map(json.loads, process.stdout)
        assert process.wait() == 0
    assert [line["type"] for line in lines] == ["partial"] * (len(lines) - 1) + ["final"]
    stream = Stream(Transcriber.load(model), SAMPLE_RATE)
    stream.feed(samples_of(PCM[: 2 * SAMPLE_RATE]))
    assert lines[-1]["text"] == stream.finish()[0].text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_shows_partial_text(model: Path, expected: list[Event]) -> None:
    ours, theirs = os.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "200"}
    process = start(model, stdout=theirs, env=environment)
    os.close(theirs)
    process.communicate(PCM)
    shown = b""
    try:
        while block := os.read(ours, 65_536):
            shown += block
    except OSError:  # how Linux ends a terminal
        pass
    finally:
        os.close(ours)
    text = shown.decode()
    for event in expected:
        assert event.text.split()[0] in text
        if event.type == "final":
            assert f"{event.text}\r\n" in text


def test_a_wav_file_is_no_pcm(model: Path) -> None:
    output, errors = start(model).communicate(b"RIFF" + bytes(1000))
    assert output == b""
    [line] = errors.decode().splitlines()
    assert line.startswith("asr: error: standard input is a WAV file")


@pytest.mark.parametrize("sizes", [[1] * 9, [2, 3, 4], [9], []])
def test_no_sample_is_torn(sizes: list[int]) -> None:
    content = bytes(range(1, sum(sizes) + 1))
    reader, writer = os.pipe()
    blocks: queue.Queue[Any] = queue.Queue()
    for size in sizes:
        os.write(writer, content[:size])
        content = content[size:]
    os.close(writer)
    read_pcm(reader, blocks)
    os.close(reader)
    found = []
    while (block := blocks.get_nowait()) is not None:
        found += list(block * 2**15)
    pairs = zip(*[iter(range(1, sum(sizes) + 1))] * 2, strict=False)
    assert found == [low + 256 * high for low, high in pairs]


def test_ctrl_c_takes_no_more_than_what_is_there() -> None:
    sound = types.SimpleNamespace(blocks=queue.Queue())
    for number in range(3):
        sound.blocks.put(number)
    taken = []
    for block in _until(lambda: True, sound):  # type: ignore[arg-type]
        taken.append(block)
        sound.blocks.put(99)  # the microphone goes on
    assert taken == [0, 1, 2]


class Microphones(types.ModuleType):
    """Stands in for sounddevice: a microphone that hears the speech at once."""

    class PortAudioError(Exception):
        pass

    def query_devices(self, device: Any, kind: str) -> dict[str, Any]:
        if device not in (None, 3, "USB"):
            raise ValueError(f"No input device\nmatching {device!r}")
        return {"name": "USB Audio", "default_samplerate": float(SAMPLE_RATE)}

    class InputStream:
        def __init__(self, **settings: Any) -> None:
            if settings["samplerate"] != SAMPLE_RATE:
                raise Microphones.PortAudioError("Invalid sample rate")
            self.settings = settings

        def start(self) -> None:
            size = self.settings["blocksize"]
            speech = samples_of(PCM)[:, None]
            for at in range(0, len(speech), size):
                self.settings["callback"](speech[at : at + size], size, None, None)
            self.settings["finished_callback"]()

        def close(self) -> None:
            pass


@pytest.fixture
def microphones(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "sounddevice", Microphones("sounddevice"))
    yield


@pytest.mark.usefixtures("microphones")
@pytest.mark.parametrize("arguments", [[], ["3"], ["USB"]])
def test_a_microphone_is_transcribed(
    model: Path, expected: list[Event], arguments: list[str]
) -> None:
    result = run("listen", *arguments, "--model", model)
    assert (result.exit_code, result.stderr) == (
        0,
        "asr: listening to USB Audio (Ctrl-C ends)\n",
    )
    assert result.stdout.splitlines() == [event.text for event in expected if event.type == "final"]


@pytest.mark.usefixtures("microphones")
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nobody"], "No input device matching 'nobody'"),
        (["--rate", "11025"], "Invalid sample rate"),
        (["--chunk", "0"], "chunk 0.0 is not above 0"),
    ],
)
def test_what_cannot_be_is_one_line(model: Path, arguments: list[str], message: str) -> None:
    result = run("listen", *arguments, "--model", model)
    assert (result.exit_code, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("asr: error: ")
    assert message in line


def test_default_chunks_are_the_librarys() -> None:
    defaults = {name: value.default for name, value in inspect.signature(listen).parameters.items()}
    assert (defaults["chunk"], defaults["look_ahead"]) == (Chunking().chunk, Chunking().look_ahead)


def test_a_missing_package_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    result = run("listen", "--model", model)
    assert result.exit_code == 1
    assert "pip install -e '.[listen]'" in result.stderr


def test_a_missing_library_is_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sounddevice.py").write_text('raise OSError("PortAudio library not found")\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    result = run("listen", "--model", model)
    assert result.exit_code == 1
    assert "libportaudio2" in result.stderr
    assert len(result.stderr.splitlines()) == 1
