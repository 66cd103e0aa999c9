"""The server, asked by OpenAI's client and by clients that are less polite."""

import asyncio
import errno
import inspect
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from babble import write_babbler, write_tones
from fastapi import FastAPI
from serving import MODEL, Held, Serving, serving, wait_until
from typer.testing import CliRunner

from asr import audio
from asr.cli.main import app
from asr.cli.serve import serve
from asr.errors import AudioError, ConfigError
from asr.formats.plain import to_dict, to_txt
from asr.formats.subtitles import to_srt, to_vtt
from asr.server.app import create_app
from asr.server.batching import Batcher
from asr.server.limits import Limits
from asr.server.metrics import Metrics
from asr.transcriber import Transcriber, Transcript

ROUTE = "/v1/audio/transcriptions"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_babbler(tmp_path_factory.mktemp("model") / f"{MODEL}.asr")


@pytest.fixture(scope="module")
def transcriber(bundle: Path) -> Transcriber:
    return Transcriber.load(bundle, "cpu", method="greedy")


@pytest.fixture(scope="module")
def server(transcriber: Transcriber) -> Iterator[Serving]:
    with serving(transcriber) as server:
        yield server


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recordings")
    return [
        write_tones(folder / f"{number}.wav", 1.0 + number / 2, seed=number) for number in range(8)
    ]


def client(server: Serving, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def post(server: Serving, path: Path, **fields: str) -> httpx.Response:
    with path.open("rb") as file:
        return httpx.post(
            server.url + ROUTE, files={"file": file}, data={"model": MODEL, **fields}, timeout=30
        )


def check_error(response: httpx.Response, status: int, param: str | None = None) -> str:
    """Return the message of an error after checks of its shape."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert error["message"]
    assert "\n" not in error["message"]
    return str(error["message"])


def test_json_and_text_hold_the_text(
    server: Serving, transcriber: Transcriber, recordings: list[Path]
) -> None:
    transcript = transcriber.transcribe(recordings[0])
    create = client(server).audio.transcriptions.create
    assert create(file=recordings[0], model=MODEL).text == transcript.text
    assert create(file=recordings[0], model="whisper-1").text == transcript.text
    text = create(file=recordings[0], model=MODEL, response_format="text")
    assert text == to_txt(transcript)


def test_a_stream_has_all_text_in_one_event(
    server: Serving, transcriber: Transcriber, recordings: list[Path]
) -> None:
    text = transcriber.transcribe(recordings[0]).text
    events = client(server).audio.transcriptions.create(
        file=recordings[0], model=MODEL, stream=True
    )
    assert [(event.type, getattr(event, "delta", None)) for event in events] == [
        ("transcript.text.delta", text),
        ("transcript.text.done", None),
    ]
    response = post(server, recordings[0], stream="true", response_format="srt")
    assert "stream needs response_format json" in check_error(response, 400, "stream")


def test_subtitles_are_those_of_the_command(
    server: Serving, transcriber: Transcriber, recordings: list[Path]
) -> None:
    transcript = transcriber.transcribe(recordings[1])
    create = client(server).audio.transcriptions.create
    assert create(file=recordings[1], model=MODEL, response_format="srt") == to_srt(transcript)
    assert create(file=recordings[1], model=MODEL, response_format="vtt") == to_vtt(transcript)


def test_verbose_json_holds_times(
    server: Serving, transcriber: Transcriber, recordings: list[Path]
) -> None:
    transcript = transcriber.transcribe(recordings[2])
    result = client(server).audio.transcriptions.create(
        file=recordings[2],
        model=MODEL,
        language="en",
        prompt="ignored",
        temperature=0.5,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert (result.text, result.language) == (transcript.text, "en")
    assert float(result.duration) == transcript.duration == 2.0
    assert result.words and result.segments
    for got, word in zip(result.words, transcript.words, strict=True):
        assert got.to_dict() == pytest.approx(asdict(word), abs=5e-4)
    for got, segment in zip(result.segments, transcript.segments, strict=True):
        assert (got.start, got.end, got.text) == (segment.start, segment.end, segment.text)
        assert got.avg_logprob <= 0


@pytest.mark.parametrize(
    "granularities, keys",
    [([], {"segments"}), (["segment"], {"segments"}), (["word"], {"words"})],
)
def test_granularities_choose_what_has_times(
    server: Serving, recordings: list[Path], granularities: list[str], keys: set[str]
) -> None:
    response = httpx.post(
        server.url + ROUTE,
        files={"file": recordings[0].read_bytes()},
        data={
            "model": MODEL,
            "response_format": "verbose_json",
            "timestamp_granularities[]": granularities,
        },
    )
    assert {"words", "segments"} & set(response.json()) == keys


def test_all_holds_every_file(
    server: Serving, transcriber: Transcriber, recordings: list[Path]
) -> None:
    transcript = transcriber.transcribe(recordings[0])
    files = post(server, recordings[0], response_format="all").json()
    assert files["json"] == {**to_dict(transcript), "path": recordings[0].name}
    assert files["srt"] == to_srt(transcript)
    assert set(files) == {"txt", "srt", "vtt", "json"}


def test_models_are_listed(server: Serving) -> None:
    models = client(server).models
    [model] = models.list()
    assert (model.id, model.object, model.owned_by) == (MODEL, "model", "asr")
    assert models.retrieve(MODEL) == model
    assert models.retrieve("whisper-1").id == "whisper-1"
    with pytest.raises(openai.NotFoundError, match="no model 'gpt/9'"):
        models.retrieve("gpt/9")


@pytest.mark.parametrize(
    "fields, status, param",
    [
        ({"model": "gpt"}, 404, "model"),
        ({"response_format": "xml"}, 400, "response_format"),
        ({"temperature": "7"}, 400, "temperature"),
        ({"temperature": "warm"}, 400, "temperature"),
        ({"timestamp_granularities[]": "word"}, 400, "timestamp_granularities[]"),
        (
            {"timestamp_granularities[]": "letter", "response_format": "verbose_json"},
            400,
            "timestamp_granularities[]",
        ),
    ],
)
def test_wrong_fields_are_named(
    server: Serving, recordings: list[Path], fields: dict[str, str], status: int, param: str
) -> None:
    check_error(post(server, recordings[0], **fields), status, param)


@pytest.mark.parametrize("content", [b"", b"no sound", b"RIFF\x00\x00\x00\x00WAVE"])
def test_a_broken_recording_is_one_line_with_its_name(
    server: Serving, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "my speech.wav"
    path.write_bytes(content)
    message = check_error(post(server, path), 400, "file")
    assert message.startswith("my speech.wav: ")
    assert "asr-" not in message, "names a file of the server"


@pytest.mark.filterwarnings("ignore::asr.errors.AudioWarning")
def test_a_client_hears_that_its_recording_is_cut_short(
    server: Serving, recordings: list[Path], tmp_path: Path
) -> None:
    cut = tmp_path / "my speech.wav"
    content = recordings[0].read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    create = client(server).audio.transcriptions.create
    expected = "my speech.wav: cut short; only 0.50 s of sound could be read"
    result = create(file=cut, model=MODEL)
    assert result.to_dict()["warning"] == expected
    verbose = create(file=cut, model=MODEL, response_format="verbose_json")
    assert verbose.to_dict()["warning"] == expected
    assert post(server, cut, response_format="all").json()["json"]["warning"] == expected
    assert "warning" not in create(file=recordings[0], model=MODEL).to_dict()


@pytest.mark.parametrize(
    "content, headers, param",
    [
        (b"", {}, "file"),
        (b"{}", {"Content-Type": "application/json"}, "file"),
        (b"x", {"Content-Type": "multipart/form-data"}, None),
        (b"x", {"Content-Type": "multipart/form-data; boundary=b"}, None),
        (b"model=a", {"Content-Type": "application/x-www-form-urlencoded"}, "file"),
    ],
)
def test_what_is_no_form_is_told(
    server: Serving, content: bytes, headers: dict[str, str], param: str | None
) -> None:
    check_error(httpx.post(server.url + ROUTE, content=content, headers=headers), 400, param)


@pytest.mark.parametrize(
    "method, path, status",
    [("GET", ROUTE, 405), ("POST", "/v1/audio/dances", 404), ("GET", "/v1/none", 404)],
)
def test_wrong_addresses_have_errors_of_the_same_shape(
    server: Serving, method: str, path: str, status: int
) -> None:
    check_error(httpx.request(method, server.url + path), status)


@pytest.mark.filterwarnings("ignore::asr.errors.AudioWarning")  # with ffmpeg some can be read
def test_damaged_recordings_never_break_the_server(server: Serving, recordings: list[Path]) -> None:
    rng = random.Random(0)
    content = recordings[0].read_bytes()
    for _ in range(15):
        damaged = bytearray(content[: rng.choice([len(content), rng.randrange(len(content))])])
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(min(len(damaged), 60))] = rng.randrange(256)
        response = httpx.post(
            server.url + ROUTE, files={"file": bytes(damaged)}, data={"model": MODEL}
        )
        assert response.status_code in (200, 400), response.text


def test_a_key_is_asked_for(transcriber: Transcriber, recordings: list[Path]) -> None:
    with serving(transcriber, api_key="sésame") as server:
        for key in ("wrong", "sésam"):
            headers = {"Authorization": f"Bearer {key}".encode()}
            check_error(httpx.get(f"{server.url}/v1/models", headers=headers), 401)
        check_error(post(server, recordings[0]), 401)
        headers = {"Authorization": "Bearer sésame".encode()}
        assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == 200
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        with pytest.raises(openai.AuthenticationError):
            client(server, "wrong").models.list()


def test_a_key_is_asked_for_inside_another_application(transcriber: Transcriber) -> None:
    inner = create_app(transcriber, MODEL, api_key="secret")
    outer = FastAPI()
    outer.mount("/speech", inner)

    async def statuses(app: FastAPI, mount: str, root_path: str = "") -> list[int]:
        transport = httpx.ASGITransport(app, root_path=root_path)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            path, headers = f"{mount}/v1/models", {"Authorization": "Bearer secret"}
            answers = [await client.get(path), await client.get(path, headers=headers)]
            answers.append(await client.post(f"{mount}{ROUTE}"))
        return [answer.status_code for answer in answers]

    try:
        assert asyncio.run(statuses(outer, "/speech")) == [401, 200, 401]
        assert asyncio.run(statuses(inner, "", root_path="/")) == [401, 200, 401]
    finally:
        inner.state.service.batcher.close()


def test_an_upload_that_is_too_large(transcriber: Transcriber, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(bytes(3_000_000))
    with serving(transcriber, Limits(megabytes=1)) as server:
        assert "1 MB" in check_error(post(server, path), 413, "file")
        form = httpx.Request("POST", server.url, files={"file": path.read_bytes()})
        headers = {"Content-Type": form.headers["Content-Type"]}
        chunks = _chunks(form.read())  # whose number is not told in advance
        check_error(httpx.post(server.url + ROUTE, content=chunks, headers=headers), 413, "file")
        with pytest.raises(openai.APIStatusError, match="larger than the 1 MB"):
            client(server).audio.transcriptions.create(file=path, model=MODEL)


def _chunks(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 65_536):
        yield content[start : start + 65_536]


def test_a_recording_that_is_too_long(transcriber: Transcriber, recordings: list[Path]) -> None:
    with serving(transcriber, Limits(seconds=1.2)) as server:
        assert post(server, recordings[0]).status_code == 200
        assert "1.2 s" in check_error(post(server, recordings[1]), 413, "file")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def test_requests_that_wait_share_a_batch(
    transcriber: Transcriber, recordings: list[Path], pool: ThreadPoolExecutor
) -> None:
    held = Held(transcriber)
    with serving(held) as server:
        answers: list[Future[httpx.Response]] = [pool.submit(post, server, recordings[0])]
        assert held.begun.acquire(timeout=20)
        answers += [pool.submit(post, server, path) for path in recordings[1:]]
        wait_until(lambda: "asr_queue_length 7.0" in httpx.get(f"{server.url}/metrics").text)
        held.go.set()
        texts = [answer.result().json()["text"] for answer in answers]
    assert held.sizes == [1, 7]
    assert texts == [transcriber.transcribe(path).text for path in recordings]


def test_a_busy_server_says_so(
    transcriber: Transcriber, recordings: list[Path], pool: ThreadPoolExecutor
) -> None:
    held = Held(transcriber)
    with serving(held, Limits(concurrent=1)) as server:
        first = pool.submit(post, server, recordings[0])
        assert held.begun.acquire(timeout=20)
        response = post(server, recordings[0])
        check_error(response, 429)
        assert response.headers["Retry-After"] == "1"
        with pytest.raises(openai.RateLimitError):
            client(server).audio.transcriptions.create(file=recordings[0], model=MODEL)
        held.go.set()
        assert first.result().status_code == 200
        assert post(server, recordings[0]).status_code == 200


def test_what_takes_too_long_is_given_up(transcriber: Transcriber, recordings: list[Path]) -> None:
    held = Held(transcriber)
    with serving(held, Limits(timeout=0.2)) as server:
        assert "0.2 s" in check_error(post(server, recordings[0]), 504)
        assert server.service.active == 0


def test_a_length_that_nobody_waits_for_is_not_looked_for(
    transcriber: Transcriber, recordings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks_read: list[int] = []

    def slow(*_: object, **__: object) -> Iterator[np.ndarray]:
        for number in range(3000):
            blocks_read.append(number)
            time.sleep(0.01)
            yield np.zeros(1, np.float32)

    monkeypatch.setattr(audio, "_sndfile_duration", lambda path: None)
    monkeypatch.setattr(audio, "iter_audio", slow)

    def rests() -> bool:
        read = len(blocks_read)
        time.sleep(0.2)
        return 0 < read == len(blocks_read) < 3000

    with serving(transcriber, Limits(timeout=1.0)) as server:
        check_error(post(server, recordings[0]), 504)
        wait_until(rests)


def test_a_client_that_left_is_forgotten(transcriber: Transcriber, recordings: list[Path]) -> None:
    held = Held(transcriber)
    with serving(held) as server:
        with pytest.raises(httpx.ReadTimeout), recordings[0].open("rb") as file:
            httpx.post(server.url + ROUTE, files={"file": file}, data={"model": MODEL}, timeout=0.5)
        wait_until(lambda: server.service.active == 0)
        lines = f'{{path="{ROUTE}",status="499"}} 1.0', 'status="500"'
        found = [line in httpx.get(f"{server.url}/metrics").text for line in lines]
        assert found == [True, False]


def test_an_upload_that_the_client_broke_off_is_not_a_wrong_one(transcriber: Transcriber) -> None:
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n"
    head += "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b"
    with serving(transcriber) as server:
        url = httpx.URL(server.url)
        with socket.create_connection((url.host, url.port)) as client:
            client.sendall(head.encode())
        line = f'{{path="{ROUTE}",status="499"}} 1.0'
        wait_until(lambda: line in httpx.get(f"{server.url}/metrics").text)


def test_a_full_disk_is_not_the_client_s_fault(
    transcriber: Transcriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "large.wav"
    path.write_bytes(bytes(2_000_000))  # more than is kept in memory
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with serving(transcriber) as server:
        assert "its log" in check_error(post(server, path), 500)


def test_keys_that_no_browser_sends_are_refused() -> None:
    with pytest.raises(ConfigError, match="printable ASCII"):
        serve(api_key="sésame")
    with pytest.raises(ConfigError, match="printable ASCII, no space around"):
        serve(api_key=" secret")


def test_an_empty_key_or_host_lets_nobody_in() -> None:
    for key in ("", " "):
        with pytest.raises(ConfigError, match="--api-key is empty, and would let everybody in"):
            serve(api_key=key)
    with pytest.raises(ConfigError, match="--host is empty"):
        serve(host="")


def test_a_stopping_server_finishes_what_runs(
    transcriber: Transcriber, recordings: list[Path], pool: ThreadPoolExecutor
) -> None:
    held = Held(transcriber)
    with serving(held) as server:
        first = pool.submit(post, server, recordings[0])
        assert held.begun.acquire(timeout=20)
        server.stop()
        check_error(post(server, recordings[0]), 503)
        assert httpx.get(f"{server.url}/healthz").status_code == 503
        held.go.set()
        assert first.result().json()["text"] == transcriber.transcribe(recordings[0]).text
        server.join()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/healthz")


def test_an_error_inside_is_a_500_and_the_next_request_is_served(
    transcriber: Transcriber, recordings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(transcriber) as server:
        with monkeypatch.context() as patch:
            patch.setattr(transcriber, "decoder", None)
            assert "log" in check_error(post(server, recordings[0]), 500)
        assert post(server, recordings[0]).status_code == 200
        assert 'status="500"} 1.0' in httpx.get(f"{server.url}/metrics").text


def test_metrics_count_what_was_done(transcriber: Transcriber, recordings: list[Path]) -> None:
    with serving(transcriber) as server:
        post(server, recordings[0])
        post(server, recordings[2])
        post(server, recordings[0], model="none")
        httpx.get(f"{server.url}/invented/by/a/client")
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
        assert httpx.get(f"{server.url}/healthz").json() == {"status": "ok"}
    for line in (
        f'asr_requests_total{{path="{ROUTE}",status="200"}} 2.0',
        f'asr_requests_total{{path="{ROUTE}",status="404"}} 1.0',
        f'asr_request_seconds_count{{path="{ROUTE}"}} 3.0',
        'asr_requests_total{path="other",status="404"} 1.0',
        "asr_audio_seconds_total 3.0",
        "asr_batch_size_sum 2.0",
        "asr_queue_length 0.0",
    ):
        assert line in lines


def test_short_recordings_slip_into_a_long_one(
    transcriber: Transcriber, recordings: list[Path], tmp_path: Path
) -> None:
    long = write_tones(tmp_path / "long.wav", 95.0)
    held = Held(transcriber)
    batcher = Batcher(held, Metrics(), batch_seconds=30.0)  # type: ignore[arg-type]
    finished: list[str] = []

    async def ask(path: Path, seconds: float) -> str:
        text = (await batcher.transcribe(path, seconds)).text
        finished.append(path.stem)
        return text

    async def run() -> list[str]:
        first = asyncio.ensure_future(ask(long, 95.0))
        await asyncio.to_thread(held.begun.acquire)
        others = [asyncio.ensure_future(ask(path, 5.0)) for path in recordings[:2]]
        await asyncio.sleep(0.05)
        held.go.set()
        return list(await asyncio.gather(first, *others))

    texts = asyncio.run(run())
    batcher.close()
    assert finished[-1] == "long"
    assert held.sizes == [1, 2]
    assert texts == [transcriber.transcribe(path).text for path in (long, *recordings[:2])]


def test_work_that_was_given_up_ends(
    transcriber: Transcriber, recordings: list[Path], tmp_path: Path
) -> None:
    long = write_tones(tmp_path / "long.wav", 95.0)
    held = Held(transcriber)
    metrics = Metrics()
    batcher = Batcher(held, metrics, batch_seconds=30.0)  # type: ignore[arg-type]

    async def run() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(batcher.transcribe(long, 95.0), 0.05)
        held.go.set()
        await batcher.transcribe(recordings[0], 1.0)

    asyncio.run(run())
    batcher.close()
    assert metrics.registry.get_sample_value("asr_audio_seconds_total") == 1.0


def test_one_broken_recording_spoils_no_batch(
    transcriber: Transcriber, recordings: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "bad.wav").write_text("no sound")
    batcher = Batcher(transcriber, Metrics())

    async def run() -> list[object]:
        paths = [recordings[0], tmp_path / "bad.wav", recordings[1]]
        jobs = [batcher.transcribe(path, 1.0) for path in paths]
        return list(await asyncio.gather(*jobs, return_exceptions=True))

    first, second, third = asyncio.run(run())
    batcher.close()
    assert isinstance(second, AudioError)
    for result, path in ((first, recordings[0]), (third, recordings[1])):
        assert isinstance(result, Transcript)
        assert result.text == transcriber.transcribe(path).text


def test_the_command_serves_until_it_is_told_to_stop(bundle: Path, recordings: list[Path]) -> None:
    command = [sys.executable, "-m", "asr", "serve", "--port", "0", "--model", str(bundle)]
    command += ["--max-seconds", "1.2"]
    environment = {**os.environ, "ASR_API_KEY": "secret"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr
        try:
            line = process.stderr.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert found, line
            api = openai.OpenAI(base_url=f"{found[0]}/v1", api_key="secret", max_retries=0)
            text = api.audio.transcriptions.create(file=recordings[0], model=MODEL).text
            assert text == Transcriber.load(bundle).transcribe(recordings[0]).text
            assert json.loads(httpx.get(f"{found[0]}/v1/models").text)["error"]
            with pytest.raises(openai.APIStatusError, match=r"1\.2 s"):
                api.audio.transcriptions.create(file=recordings[1], model=MODEL)
            if sys.platform != "win32":
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0
                assert process.stderr.read() == ""
        finally:
            process.kill()


def test_the_commands_limits_are_the_servers() -> None:
    defaults = {
        name: option.default for name, option in inspect.signature(serve).parameters.items()
    }
    limits = (defaults[name] for name in ("max_mb", "max_seconds", "max_concurrent", "timeout"))
    assert Limits(*limits) == Limits()


def test_a_port_that_is_taken_is_one_line(bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(app, ["serve", "--port", port, "--model", str(bundle)])
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith(f"asr: error: cannot listen on 127.0.0.1 port {port} (")
