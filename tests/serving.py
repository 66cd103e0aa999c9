"""A real server on the loopback interface, in a thread."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asr.errors import AsrError
from asr.server.app import create_app
from asr.server.limits import Limits
from asr.server.running import Server, address, listen
from asr.transcriber import Transcriber, Transcript

MODEL = "babbler"


class Held:
    """A transcriber that waits before each batch until it is let go.

    Attributes:
        sizes: how many recordings were in each batch.
        go: lets it.
    """

    def __init__(self, transcriber: Transcriber) -> None:
        self.transcriber = transcriber
        self.sizes: list[int] = []
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)

    def transcribe_many(
        self, paths: Iterable[Path], batch_seconds: float, on_progress: Callable[[float], None]
    ) -> Iterator[Transcript | AsrError]:
        paths = list(paths)
        self.sizes.append(len(paths))
        self.begun.release()
        assert self.go.wait(30)
        yield from self.transcriber.transcribe_many(paths, batch_seconds, on_progress)


class Serving:
    """A server at work.

    Attributes:
        url: where.
        config: uvicorn's settings.
    """

    def __init__(self, transcriber: Transcriber | Held, limits: Limits, **settings: Any) -> None:
        listener = listen("127.0.0.1", 0)
        self.url = address(listener)
        app = create_app(transcriber, MODEL, limits=limits, **settings)  # type: ignore[arg-type]
        self.service = app.state.service
        self._server = Server(app)
        self.config = self._server.config
        self._thread = threading.Thread(target=self._server.run, args=([listener],))
        self._thread.start()

    def stop(self) -> None:
        """Do what a signal does."""
        self._server.handle_exit(signal.SIGTERM, None)

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join(20)
        assert not self._thread.is_alive()


def wait_until(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def serving(
    transcriber: Transcriber | Held,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    **settings: Any,
) -> Iterator[Serving]:
    server = Serving(transcriber, limits, **settings)
    try:
        yield server
    finally:
        if isinstance(transcriber, Held):
            transcriber.go.set()
        if not server.service.is_stopping:
            server.stop()
        server.join()
