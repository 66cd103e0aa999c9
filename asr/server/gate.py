"""Who may come in: checks of a request before its body is read, and of its size and time."""

import asyncio
import secrets
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asr.server.errors import ApiError
from asr.server.limits import BoundedBody
from asr.server.service import Service

API = "/v1/"
WORK = "/v1/audio/"  # what occupies the model
KEY_PROTOCOL = "openai-insecure-api-key."  # of browsers, whose WebSockets send no other header


class Gate:
    """Lets a request through to an application, or answers it with an error.

    Args:
        app: the application.
        service: knows limits and key, and counts requests.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request or a WebSocket."""
        # Inside another application, or behind a proxy's prefix, the path has the root in front.
        path, root = scope.get("path", ""), scope.get("root_path", "")
        if path.startswith(f"{root}/"):  # as the router does
            path = path[len(root) :]
        if not path.startswith(API):
            await self.app(scope, receive, send)
            return
        try:
            self._check_key(Headers(scope=scope))
            if not path.startswith(WORK):
                await self.app(scope, receive, send)
                return
            self.service.admit()
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        if scope["type"] == "http":
            await self._answer_in_time(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            self.service.release()

    def _check_key(self, headers: Headers) -> None:
        key = self.service.api_key
        if key is None:
            return
        given = [headers.get("authorization", "").removeprefix("Bearer ")]
        for protocol in headers.get("sec-websocket-protocol", "").split(","):
            given.append(protocol.strip().removeprefix(KEY_PROTOCOL))
        # A comparison of constant time: how long it takes tells nothing about the key.
        if not any(secrets.compare_digest(text.encode("latin-1"), key.encode()) for text in given):
            message = "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'"
            raise ApiError(
                401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"}
            )

    async def _answer_in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application until it answers, time is up or the client has left."""
        limits = self.service.limits
        body = BoundedBody(receive, limits)
        answered = False

        async def answer(message: Message) -> None:
            nonlocal answered
            if not answered:
                answered = True
                self.service.release()  # first, since whoever has an answer may ask again
            await send(message)

        work = asyncio.ensure_future(self.app(scope, body, answer))
        left = asyncio.ensure_future(body.client_left())
        try:
            await asyncio.wait(
                {work, left}, timeout=limits.timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if work.done():
                work.result()
            elif not left.done() and not answered:
                work.cancel()
                message = f"not done within the {limits.timeout:g} s that a request may take"
                await ApiError(504, message, code="timeout").response()(scope, receive, answer)
        finally:
            left.cancel()
            work.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await work
            if not answered:
                self.service.release()
