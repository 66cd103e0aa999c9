"""What the server tells Prometheus."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LATENCIES = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)  # seconds
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counts of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "asr_requests", "Requests answered.", ["path", "status"], registry=self.registry
        )
        self.latency = Histogram(
            "asr_request_seconds",
            "Time from a request's arrival to its answer.",
            ["path"],
            buckets=LATENCIES,
            registry=self.registry,
        )
        self.audio = Counter("asr_audio_seconds", "Audio transcribed.", registry=self.registry)
        self.batch_size = Histogram(
            "asr_batch_size",
            "Requests transcribed together.",
            buckets=BATCH_SIZES,
            registry=self.registry,
        )

    def watch(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        """Add a figure that is read whenever somebody asks."""
        Gauge(name, documentation, registry=self.registry).set_function(value)

    def exposition(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self.registry)


class Measured:
    """Counts the requests to an application and times them.

    Args:
        app: the application.
        metrics: takes the counts.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 499  # nginx's for a client that left before it was answered
        left = False

        async def listened() -> Message:
            nonlocal left
            message = await receive()
            left |= message["type"] == "http.disconnect"
            return message

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start" and not left:
                status = message["status"]
            await send(message)

        start = time.perf_counter()
        try:
            await self.app(scope, listened, watched)
        except Exception:
            status = 500
            raise
        finally:
            # Paths that clients invent must not become labels.
            path = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.latency.labels(path).observe(time.perf_counter() - start)
