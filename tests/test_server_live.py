"""Live audio over a WebSocket."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from babble import babbling_model
from serving import Serving, serving, wait_until
from signals import noise
from tones import SAMPLE_RATE, speak
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from asr.server.batching import Batcher
from asr.server.limits import Limits
from asr.server.live import _Backlog
from asr.server.metrics import Metrics
from asr.server.temporary import temporary_file
from asr.stretches import LEAD_SECONDS
from asr.transcriber import Transcriber, Transcript, choose_device

CHUNK = 800  # samples


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber(babbling_model(), choose_device("cpu"))


@pytest.fixture(scope="module")
def server(transcriber: Transcriber) -> Iterator[Serving]:
    with serving(transcriber, Limits(seconds=20.0)) as server:
        yield server


def open_session(server: Serving, query: str = f"?sample_rate={SAMPLE_RATE}", **kwargs: Any) -> Any:
    return connect(f"{server.url.replace('http', 'ws')}/v1/audio/live{query}", **kwargs)


def say(session: ClientConnection, waveform: np.ndarray) -> None:
    pcm = (waveform * 32767).astype("<i2")
    for start in range(0, len(pcm), CHUNK):
        session.send(pcm[start : start + CHUNK].tobytes())


def stop(session: ClientConnection) -> list[dict[str, Any]]:
    """End a session and return all that it said."""
    session.send(json.dumps({"type": "stop"}))
    return [json.loads(message) for message in session]


def text_of(transcriber: Transcriber, waveform: np.ndarray) -> str:
    with temporary_file() as path:
        soundfile.write(path, waveform, SAMPLE_RATE, "PCM_16", format="WAV")
        return transcriber.transcribe(path).text


def test_a_pause_makes_a_text_final(server: Serving, transcriber: Transcriber) -> None:
    pause = np.zeros(SAMPLE_RATE, np.float32)
    with open_session(server) as session:
        say(session, np.concatenate([speak("ABCDCBAD"), pause]))
        messages = []
        while not messages or messages[-1]["type"] == "partial":
            messages.append(json.loads(session.recv(timeout=20)))
        assert messages[0]["type"] == "partial"
        first = messages[-1]
        say(session, speak("DDAACC"))
        *partial, second = stop(session)
    assert {message["type"] for message in partial} <= {"partial"}
    assert (first["type"], second["type"]) == ("final", "final")
    assert first["text"] and second["text"]
    assert set(first) == {"type", "text", "start", "end"}
    assert 0 <= first["start"] < first["end"] < 2.0 < second["start"] + 0.5 < second["end"]
    lead = round(LEAD_SECONDS * SAMPLE_RATE)
    said = speak("ABCDCBAD")
    assert first["text"] == text_of(transcriber, np.concatenate([said, pause[:lead]]))


def test_silence_says_nothing(server: Serving) -> None:
    with open_session(server) as session:
        say(session, noise(3.0, SAMPLE_RATE, level=1e-4))
        assert stop(session) == []


@pytest.mark.parametrize("message", [b"odd", "no JSON", '{"type": "start"}'])
def test_a_wrong_message_is_told(server: Serving, message: bytes | str) -> None:
    with open_session(server) as session:
        session.send(message)
        answer = json.loads(session.recv(timeout=20))
        assert answer["type"] == "error"
        assert answer["error"]["type"] == "invalid_request_error"
        with pytest.raises(ConnectionClosedError, match="1008"):
            session.recv(timeout=20)


def test_messages_are_not_inflated_and_not_too_large(server: Serving) -> None:
    """Else a client could fill the memory before its audio is counted."""
    with open_session(server, compression="deflate") as session:
        assert session.protocol.extensions == []
        with pytest.raises(ConnectionClosedError):
            session.send(bytes(5 * 2**20))
            session.recv(timeout=20)


def test_the_rate_of_the_microphone_is_honoured(server: Serving) -> None:
    speech = np.concatenate([speak("ABCDCBAD"), np.zeros(SAMPLE_RATE, np.float32)])
    ends = []
    for rate in (SAMPLE_RATE, 44_100):
        with open_session(server, f"?sample_rate={rate}") as session:
            say(session, 0.9 * soxr.resample(speech, SAMPLE_RATE, rate))
            ends.append([m["end"] for m in stop(session) if m["type"] == "final"][-1])
    assert ends[1] == pytest.approx(ends[0], abs=0.1)


def test_text_that_is_no_message_is_told_as_such(server: Serving) -> None:
    for text in ("stop", "[" * 100_000):
        with open_session(server) as session:
            session.send(text)
            error = json.loads(session.recv(timeout=20))["error"]
            assert "send 16-bit PCM" in error["message"]


def test_a_session_that_is_too_long_ends(server: Serving) -> None:
    with open_session(server) as session:
        session.send(bytes(2 * 21 * SAMPLE_RATE))
        assert json.loads(session.recv(timeout=20))["error"]["code"] == "audio_too_long"


@pytest.mark.parametrize(
    "query, kwargs, status",
    [
        ("?sample_rate=1", {}, 400),
        ("", {"origin": "http://elsewhere.example"}, 403),
        ("", {"origin": "http://["}, 403),
    ],
)
def test_sessions_are_refused(
    server: Serving, query: str, kwargs: dict[str, Any], status: int
) -> None:
    with pytest.raises(InvalidStatus) as refusal, open_session(server, query, **kwargs):
        pass
    assert refusal.value.response.status_code == status
    assert json.loads(refusal.value.response.body)["error"]["message"]


def test_a_key_is_taken_from_programs_and_browsers(transcriber: Transcriber) -> None:
    with serving(transcriber, api_key="secret") as server:
        with pytest.raises(InvalidStatus), open_session(server):
            pass
        with open_session(server, additional_headers={"Authorization": "Bearer secret"}):
            pass
        protocols = ["live", "openai-insecure-api-key.secret"]
        with open_session(server, subprotocols=protocols) as session:
            assert session.subprotocol == "live"


def test_a_stopping_server_ends_sessions(transcriber: Transcriber) -> None:
    with serving(transcriber) as server, open_session(server, f"?sample_rate={8000}") as session:
        said = speak("ABCDABCD")
        say(session, said)
        heard = server.service.metrics.registry.get_sample_value
        all_of_it = len(said) / SAMPLE_RATE - 1e-6
        wait_until(lambda: (heard("asr_audio_seconds_total") or 0) > all_of_it)
        server.stop()
        messages = []
        with pytest.raises(ConnectionClosedOK, match="1001"):
            while True:
                messages.append(json.loads(session.recv(timeout=20)))
        assert messages[-1]["error"]["code"] == "stopping"
        assert messages[-2]["type"] == "final"
        server.join()


def test_who_hangs_up_is_forgotten(transcriber: Transcriber) -> None:
    with serving(transcriber) as server:
        with open_session(server) as session:
            say(session, speak("ABCD"))
        server.stop()
        server.join()
        assert server.service.active == 0


class Busy(Transcriber):
    """At work on a lecture until it is over; others may use the model ten times a second."""

    parts = 0

    def transcribe_many(self, *arguments: Any, **settings: Any) -> Iterator[Transcript]:
        [_, _, on_progress] = arguments
        while not self.over.is_set():
            time.sleep(0.1)
            self.parts += 1
            on_progress(1.0)
        yield Transcript("lecture", 3600.0, "", ())

    over: threading.Event


def test_a_session_keeps_up_beside_uploads() -> None:
    busy = Busy(babbling_model(), choose_device("cpu"))
    busy.over = threading.Event()
    said = np.concatenate([speak("ABCDCBAD"), np.zeros(5 * SAMPLE_RATE, np.float32)])

    def upload() -> Transcript:
        return asyncio.run(server.service.batcher.transcribe(Path("lecture"), 3600.0))

    with serving(busy) as server, ThreadPoolExecutor(1) as pool:
        lecture = pool.submit(upload)
        try:
            with open_session(server) as session:
                before = busy.parts
                say(session, said)
                messages = stop(session)
                needed = busy.parts - before
        finally:
            busy.over.set()
        assert lecture.result(20).path == "lecture"
    assert messages[-1]["type"] == "final"
    assert needed < len(said) / CHUNK / 2  # what came meanwhile is heard together


def test_who_sends_more_than_there_is_room_for_waits() -> None:
    async def listen() -> None:
        backlog = _Backlog(4)
        await backlog.put(b"ab")
        sending = asyncio.create_task(backlog.put(b"cdefgh"))
        for taken in (b"abcd", b"efgh"):
            await asyncio.sleep(0.05)
            assert not sending.done()
            assert await backlog.take() == taken
        await sending
        taking = asyncio.create_task(backlog.take())
        await asyncio.sleep(0.05)
        assert not taking.done()
        await backlog.end()
        assert await taking == await backlog.take() == b""

    asyncio.run(asyncio.wait_for(listen(), 20))


def test_a_long_message_is_heard_to_its_end(server: Serving, transcriber: Transcriber) -> None:
    said = np.concatenate([np.zeros(12 * SAMPLE_RATE, np.float32), speak("ABCDCBAD")])
    with open_session(server) as session:
        session.send((said * 32767).astype("<i2").tobytes())
        last = stop(session)[-1]
    assert last["type"] == "final" and last["end"] > 12.5


def test_no_session_ends_for_a_pong_that_is_behind_audio(server: Serving) -> None:
    assert server.config.ws_ping_timeout >= 60  # it waits behind what was sent before


def test_live_audio_does_not_wait_for_long_recordings() -> None:
    class Lecture:
        """Takes one batch after the other until somebody was heard."""

        heard = threading.Event()

        def transcribe_many(
            self, paths: list[Path], batch_seconds: float, on_progress: Callable[[float], None]
        ) -> Iterator[Transcript]:
            while not self.heard.is_set():
                on_progress(1.0)
            yield Transcript("lecture", 3600.0, "", ())

    async def listen() -> bool:
        lecture = asyncio.create_task(batcher.transcribe(Path("lecture"), 3600.0))
        await asyncio.sleep(0.1)
        await batcher.call(Lecture.heard.set)
        with pytest.raises(ZeroDivisionError):
            await batcher.call(lambda: 1 / 0)
        return (await lecture).path == "lecture"

    batcher = Batcher(Lecture(), Metrics())  # type: ignore[arg-type]
    try:
        assert asyncio.run(asyncio.wait_for(listen(), 20))
    finally:
        Lecture.heard.set()
        batcher.close()
