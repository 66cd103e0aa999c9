"""Text while somebody speaks, over a WebSocket; :mod:`asr.streaming` says how."""

import asyncio
import json
import time
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect

from asr.server.errors import ApiError, stopping
from asr.server.service import Service
from asr.streaming import Event, Stream

POLL_SECONDS = 0.5  # how soon a silent session notices that the server stops
MOST_SECONDS = 5.0  # heard at once: the model, busy with a batch, answers every second or so
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
    if origin and origin.partition("://")[2] != websocket.headers.get("host"):
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
        self.stream = Stream(service.batcher.transcriber, sample_rate)
        self.backlog = _Backlog(2 * round(MOST_SECONDS * sample_rate))
        self.received = 0  # bytes
        self.next_partial = 0.0  # on the clock

    async def run(self) -> None:
        """Listen until the end."""
        reading = asyncio.ensure_future(self._read())
        try:
            while pcm := await self.backlog.take():
                await self._hear(pcm)
            error = await reading
            await self._tell(await self.service.batcher.call(self.stream.finish))
            if error:
                await self._send({"type": "error", **error.body()})
            await self.websocket.close(_close_code(error))
        except WebSocketDisconnect:
            pass
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> ApiError | None:
        """Take in what is sent, also while the model is busy; return what was wrong with it."""
        try:
            while (pcm := await self._pcm()) is not None:
                await self.backlog.put(pcm)
        except ApiError as error:
            return error
        except WebSocketDisconnect:
            await self.backlog.drop()
            raise
        finally:
            await self.backlog.end()
        return None

    async def _hear(self, pcm: bytes) -> None:
        samples: np.ndarray = np.frombuffer(pcm, "<i2").astype(np.float32) / 2**15
        start = time.monotonic()
        feed = partial(self._feed, samples, partials=start >= self.next_partial)
        events = await self.service.batcher.call(feed)
        if any(event.type == "partial" for event in events):
            now = time.monotonic()
            # At most half of the time goes into partial texts: who speaks is never left behind.
            self.next_partial = now + (now - start)
        await self._tell(events)

    def _feed(self, samples: np.ndarray, partials: bool) -> list[Event]:
        """Hear samples; only the last second of many is worth a partial text."""
        late, now = samples[: -self.sample_rate], samples[-self.sample_rate :]
        events = self.stream.feed(late, partials=False) if len(late) else []
        return events + self.stream.feed(now, partials=partials)

    async def _tell(self, events: list[Event]) -> None:
        for event in events:
            await self._send(asdict(event))

    async def _pcm(self) -> bytes | None:
        """Return the content of the next message, or ``None`` if the speaker is done."""
        message = await self._message()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        content: bytes | None = message.get("bytes")
        if content is None:
            if _is_stop(message["text"]):
                return None
            raise ApiError(400, 'send 16-bit PCM in binary messages, or the text {"type": "stop"}')
        if len(content) % 2:
            raise ApiError(400, f"a message of {len(content)} bytes holds no whole 16-bit samples")
        self.received += len(content)
        self.service.metrics.audio.inc(len(content) / 2 / self.sample_rate)
        if self.received / 2 > self.service.limits.seconds * self.sample_rate:
            raise self.service.limits.too_long()
        return content

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


class _Backlog:
    """Audio that was sent and not heard yet, bounded: who sends more has to wait.

    Args:
        most: bytes to give at once, and from which on there is no room for more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pcm = bytearray()
        self._is_complete = False
        self._changed = asyncio.Condition()

    async def put(self, pcm: bytes) -> None:
        """Add some, and return once there is room for more."""
        async with self._changed:
            self._pcm += pcm
            self._changed.notify_all()
            await self._changed.wait_for(lambda: len(self._pcm) < self._most)

    async def drop(self) -> None:
        """Forget what is there."""
        async with self._changed:
            self._pcm.clear()

    async def end(self) -> None:
        """Let it be known that no more will come."""
        async with self._changed:
            self._is_complete = True
            self._changed.notify_all()

    async def take(self) -> bytes:
        """Remove and return what is there, as soon as it is; nothing after the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._pcm or self._is_complete)
            taken = bytes(self._pcm[: self._most])
            del self._pcm[: self._most]
            self._changed.notify_all()
        return taken


def _is_stop(text: str) -> bool:
    try:
        return bool(json.loads(text) == {"type": "stop"})
    except (ValueError, RecursionError):
        return False


def _close_code(error: ApiError | None) -> int:
    """Return the WebSocket's close code (RFC 6455, section 7.4.1)."""
    if error is None:
        return 1000
    return 1001 if error.status_code == 503 else 1008
