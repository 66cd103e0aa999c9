"""How much a client may ask for."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.types import Message, Receive

from asr.audio import audio_duration
from asr.server.errors import ApiError

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """Bounds that a request meets.

    Attributes:
        megabytes: most of a request's body, MiB.
        seconds: longest recording or live session.
        concurrent: most requests and live sessions at once, those that wait included.
        timeout: most seconds from a request's arrival to its answer, and between two messages
            of a live session.
    """

    megabytes: float = 100.0
    seconds: float = 7200.0
    concurrent: int = 64
    timeout: float = 600.0

    @property
    def body(self) -> float:
        """Most bytes of a request's body."""
        return self.megabytes * MEBIBYTE

    def too_large(self) -> ApiError:
        """Return the error of a body that exceeds them."""
        message = f"the upload is larger than the {self.megabytes:g} MB that this server takes"
        return ApiError(413, message, param="file", code="file_too_large")

    def too_long(self) -> ApiError:
        """Return the error of audio that exceeds them."""
        message = f"the audio is longer than the {self.seconds:g} s that this server takes"
        return ApiError(413, message, param="file", code="audio_too_long")

    def check_length(self, path: Path, is_given_up: Callable[[], bool]) -> float:
        """Return the seconds of a recording, by its header if that tells.

        Else it is decoded, until it is given up.

        Raises:
            AudioError: it cannot be read.
            ApiError: it is too long.
        """
        seconds = audio_duration(path, self.seconds, is_given_up)
        if seconds > self.seconds:
            raise self.too_long()
        return seconds


class BoundedBody:
    """The body of a request as it arrives, refused where it exceeds the limits.

    Args:
        receive: gives the messages of the request.
        limits: to keep.
    """

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive = receive
        self._limits = limits
        self._size = 0
        self._complete = asyncio.Event()

    async def __call__(self) -> Message:
        """Return the next message, counting bytes.

        Raises:
            ApiError: the body is too large.
        """
        message = await self._next()
        if self._size > self._limits.body:
            # Most clients write all of a request before they look for an answer.
            while self._size <= 2 * self._limits.body and not self._complete.is_set():
                await self._next()
            raise self._limits.too_large()
        return message

    async def _next(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if not message.get("more_body", False):
            self._complete.set()
        return message

    async def client_left(self) -> None:
        """Return when the client hangs up after it has sent the body."""
        await self._complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
