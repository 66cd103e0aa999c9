"""Text while somebody speaks, over a WebSocket.

The model hears whole stretches of speech, forwards and backwards. It is run again and again over
the growing stretch since the last pause, so that a partial text may change until it is final.
"""

import asyncio
import json
import time
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
import soundfile
from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect

from asr.server.errors import ApiError, stopping
from asr.server.service import Service
from asr.server.stretches import Stretch, Stretches
from asr.server.temporary import temporary_file

PARTIAL_SECONDS = 0.5  # between two partial texts, at least
POLL_SECONDS = 0.5  # how soon a silent session notices that the server stops
PROTOCOL = "live"  # what a browser names beside the one that carries its key

router = APIRouter()


@router.websocket("/v1/audio/live")
async def live(
    websocket: WebSocket, sample_rate: Annotated[int, Query(ge=8000, le=192_000)] = 16_000
) -> None:
    """Transcribe 16-bit little-endian mono PCM at that rate, as it comes, in binary messages.

    Answers with JSON: ``{"type": "partial" | "final", "text", "start", "end"}``, seconds from
    the beginning of the session. The text message ``{"type": "stop"}`` asks for the last final
    text, after which the server closes. What goes wrong is told as ``{"type": "error",
    "error": …}``.
    """
    origin = websocket.headers.get("origin")
    if origin and urlsplit(origin).netloc != websocket.headers.get("host"):
        # Browsers let any page open a WebSocket to any server.
        raise ApiError(403, "live audio is taken from this server's own pages alone")
    offered = websocket.scope["subprotocols"]
    await websocket.accept(PROTOCOL if PROTOCOL in offered else None)
    await _Session(websocket, websocket.app.state.service, sample_rate).run()


class _Session:
    """One speaker."""

    def __init__(self, websocket: WebSocket, service: Service, sample_rate: int) -> None:
        self.websocket = websocket
        self.service = service
        self.sample_rate = sample_rate
        self.stretches = Stretches(sample_rate)
        self.received = 0  # samples
        self.shown = ""  # the last partial text
        self.next_partial = 0.0  # on the clock

    async def run(self) -> None:
        """Listen until the end."""
        error = None
        try:
            try:
                while (samples := await self._samples()) is not None:
                    await self._hear(samples)
            except ApiError as problem:
                error = problem
            if self.stretches.speaking:
                await self._tell("final", self.stretches.current())
            if error:
                await self._send({"type": "error", **error.body()})
            await self.websocket.close(_close_code(error))
        except WebSocketDisconnect:
            pass

    async def _hear(self, samples: np.ndarray) -> None:
        for stretch in self.stretches.feed(samples):
            await self._tell("final", stretch)
        if self.stretches.speaking and time.monotonic() >= self.next_partial:
            start = time.monotonic()
            await self._tell("partial", self.stretches.current())
            now = time.monotonic()
            # At most half of the time goes into partial texts: who speaks is never left behind.
            self.next_partial = now + max(PARTIAL_SECONDS, now - start)

    async def _tell(self, kind: str, stretch: Stretch) -> None:
        with temporary_file() as path:
            soundfile.write(path, stretch.waveform, self.sample_rate, "FLOAT", format="WAV")
            seconds = len(stretch.waveform) / self.sample_rate
            transcript = await self.service.batcher.transcribe(path, seconds)
        if not transcript.text and not self.shown:
            return  # a noise, not a word
        self.shown = transcript.text if kind == "partial" else ""
        words = transcript.words
        start, end = (words[0].start, words[-1].end) if words else (0.0, seconds)
        await self._send(
            {
                "type": kind,
                "text": transcript.text,
                "start": round(stretch.start + start, 3),
                "end": round(stretch.start + end, 3),
            }
        )

    async def _samples(self) -> np.ndarray | None:
        """Return the next samples, (time,) float32, or ``None`` if the speaker is done."""
        message = await self._message()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        content = message.get("bytes")
        if content is None:
            if _is_stop(message["text"]):
                return None
            raise ApiError(400, 'send 16-bit PCM in binary messages, or the text {"type": "stop"}')
        if len(content) % 2:
            raise ApiError(400, f"a message of {len(content)} bytes holds no whole 16-bit samples")
        samples = np.frombuffer(content, "<i2").astype(np.float32) / 2**15
        self.received += len(samples)
        if self.received > self.service.limits.seconds * self.sample_rate:
            raise self.service.limits.too_long()
        return samples

    async def _message(self) -> Any:
        receiving = asyncio.ensure_future(self.websocket.receive())
        waiting_since = time.monotonic()
        try:
            while not receiving.done():
                if self.service.is_stopping:
                    raise stopping()
                if time.monotonic() - waiting_since > self.service.limits.timeout:
                    seconds = self.service.limits.timeout
                    raise ApiError(408, f"nothing was heard for {seconds:g} s", code="timeout")
                await asyncio.wait({receiving}, timeout=POLL_SECONDS)
        finally:
            receiving.cancel()
        return receiving.result()

    async def _send(self, message: dict[str, Any]) -> None:
        await self.websocket.send_text(json.dumps(message, ensure_ascii=False))


def _is_stop(text: str) -> bool:
    try:
        return bool(json.loads(text) == {"type": "stop"})
    except ValueError:
        return False


def _close_code(error: ApiError | None) -> int:
    """Return the WebSocket's close code (RFC 6455, section 7.4.1)."""
    if error is None:
        return 1000
    return 1001 if error.status_code == 503 else 1008
