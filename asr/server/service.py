"""What the parts of the server share."""

from dataclasses import dataclass, field

from asr.server.batching import Batcher
from asr.server.errors import ApiError, stopping
from asr.server.limits import Limits
from asr.server.metrics import Metrics


@dataclass
class Service:
    """A model on offer.

    Attributes:
        model: its name for clients.
        created: when it was made, seconds since 1970.
        batcher: transcribes.
        limits: of what clients may ask for.
        metrics: counts what they asked for.
        api_key: what they must send along; ``None`` lets everybody in.
        active: requests and live sessions now admitted.
        is_stopping: whether new ones are refused.
    """

    model: str
    created: int
    batcher: Batcher
    limits: Limits
    metrics: Metrics
    api_key: str | None = None
    active: int = field(default=0, init=False)
    is_stopping: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.metrics.watch(
            "asr_active", "Requests and live sessions admitted.", lambda: self.active
        )

    def admit(self) -> None:
        """Count one more request or live session as active.

        Raises:
            ApiError: the server is stopping or busy.
        """
        if self.is_stopping:
            raise stopping()
        if self.active >= self.limits.concurrent:
            message = f"{self.active} requests are being worked on; try again in a moment"
            raise ApiError(429, message, code="too_many_requests", headers={"Retry-After": "1"})
        self.active += 1

    def release(self) -> None:
        """Count it no more."""
        self.active -= 1
