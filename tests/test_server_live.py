"""Live audio: where stretches of speech end, and what is said about them."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
from babble import babbling_model
from serving import Serving, serving
from tones import SAMPLE_RATE, speak
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from asr.segmentation import MAX_SECONDS
from asr.server.limits import Limits
from asr.server.stretches import LEAD_SECONDS, PAUSE_SECONDS, Stretch, Stretches
from asr.server.temporary import temporary_file
from asr.transcriber import Transcriber, choose_device

CHUNK = 800  # samples


def noise(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def cut(waveform: np.ndarray, chunk: int = CHUNK) -> tuple[list[Stretch], Stretches]:
    stretches = Stretches(SAMPLE_RATE)
    found = []
    for start in range(0, len(waveform), chunk):
        found += stretches.feed(waveform[start : start + chunk])
    return found, stretches


@pytest.mark.parametrize("level", [0.0, 1e-3, 0.01])
def test_stretches_are_what_was_said(level: float) -> None:
    speech = [noise(1.0, 0.1, seed=1), noise(2.0, 0.1, seed=2)]
    waveform = np.concatenate(
        [noise(2.0, level), speech[0], noise(1.5, level), speech[1], noise(3.0, level)]
    )
    found, stretches = cut(waveform)
    assert not stretches.speaking
    assert [stretch.start for stretch in found] == pytest.approx([1.7, 4.2], abs=0.05)
    for stretch, said in zip(found, speech, strict=True):
        seconds = len(stretch.waveform) / SAMPLE_RATE
        assert seconds == pytest.approx(len(said) / SAMPLE_RATE + 2 * LEAD_SECONDS, abs=0.1)
        start = round(stretch.start * SAMPLE_RATE)
        np.testing.assert_array_equal(
            stretch.waveform, waveform[start : start + len(stretch.waveform)]
        )


def test_a_short_halt_ends_nothing() -> None:
    halt = noise(PAUSE_SECONDS - 0.1, 1e-3)
    waveform = np.concatenate([noise(1.0, 0.1), halt, noise(1.0, 0.1)])
    found, stretches = cut(waveform)
    assert not found
    assert stretches.speaking
    np.testing.assert_array_equal(stretches.current().waveform, waveform)


def test_noise_that_rises_is_learnt() -> None:
    waveform = np.concatenate([noise(3.0, 1e-3), noise(20.0, 0.01)])
    found, stretches = cut(waveform)
    assert not stretches.speaking
    assert len(found) == 1


def test_endless_speech_is_cut_and_nothing_is_lost() -> None:
    waveform = speak("ABCD" * 200)[: round(2.2 * MAX_SECONDS * SAMPLE_RATE)]
    found, stretches = cut(waveform)
    assert len(found) == 2
    whole = [stretch.waveform for stretch in found] + [stretches.current().waveform]
    left = len(waveform) % round(0.02 * SAMPLE_RATE)
    np.testing.assert_array_equal(np.concatenate(whole), waveform[: len(waveform) - left])


def test_how_the_stream_is_chopped_changes_nothing() -> None:
    waveform = np.concatenate([noise(1.0, 1e-3), speak("ABCDABCD"), noise(2.0, 1e-3)])
    [one], _ = cut(waveform, 7)
    [other], _ = cut(waveform, len(waveform))
    np.testing.assert_array_equal(one.waveform, other.waveform)
    assert one.start == other.start


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
        say(session, noise(3.0, 1e-4))
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


def test_a_session_that_is_too_long_ends(server: Serving) -> None:
    with open_session(server) as session:
        session.send(bytes(2 * 21 * SAMPLE_RATE))
        assert json.loads(session.recv(timeout=20))["error"]["code"] == "audio_too_long"


@pytest.mark.parametrize(
    "query, kwargs, status",
    [("?sample_rate=1", {}, 400), ("", {"origin": "http://elsewhere.example"}, 403)],
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
        session.ping().wait(20)
        say(session, speak("ABCDABCD"))
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
