"""Serves an application until it is told to stop, and then finishes what it began."""

import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from asr.errors import ConfigError
from asr.server.service import Service

MOST_BYTES = 4 * 2**20  # of a message in a live session: two minutes at 16 kHz


class Server(uvicorn.Server):
    """A uvicorn server that, when told to stop, refuses new requests and finishes old ones.

    uvicorn alone would close its socket at once: clients could not tell a server that stops from
    one that crashed, and load balancers would learn nothing from ``/healthz``.
    """

    def __init__(self, app: FastAPI) -> None:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            ws="websockets-sansio",
            ws_ping_timeout=120.0,  # a client's pong queues behind audio that is not read yet
            ws_max_size=MOST_BYTES,
            ws_per_message_deflate=False,  # a few KB would become many MB before they are counted
        )
        super().__init__(config)
        self.service: Service = app.state.service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop once nothing runs; at the second signal, at once."""
        if self.service.is_stopping:
            self.should_exit = self.force_exit = True
        self.service.is_stopping = True

    async def on_tick(self, counter: int) -> bool:
        """Tell whether to end; called ten times a second."""
        idle = self.service.is_stopping and not self.service.active
        return await super().on_tick(counter) or idle


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; at a free port if ``port`` is 0.

    Raises:
        ConfigError: the address is taken, not allowed or not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot listen on {host} port {port} ({reason}); choose another --host or --port"
        ) from error


def address(listener: socket.socket) -> str:
    """Return where browsers find a server."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
