"""Requests that wait are transcribed together, by one thread that has the model to itself."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from asr.server.metrics import Metrics
from asr.transcriber import BATCH_SECONDS, Transcriber, Transcript

Result = TypeVar("Result")


@dataclass
class _Job:
    """A recording that waits for its transcript."""

    path: Path
    seconds: float
    future: Future[Transcript] = field(default_factory=Future)


class _Abandoned(Exception):  # noqa: N818 (nobody's fault)
    """Everybody who asked for the batch has left."""


class Batcher:
    """Transcribes recordings for many clients at once.

    Recordings that wait go into one batch, the oldest first and as many as fit. One that is
    longer than a batch is worked on alone; short ones slip in between its parts, so that nobody
    waits behind an hour of lecture. What is transcribed together never changes a result.

    Args:
        transcriber: does the work.
        metrics: is told of batches, of audio and of those that wait.
        batch_seconds: most audio in a batch.
    """

    def __init__(
        self, transcriber: Transcriber, metrics: Metrics, batch_seconds: float = BATCH_SECONDS
    ) -> None:
        self.transcriber = transcriber
        self.metrics = metrics
        self.batch_seconds = batch_seconds
        self._waiting: deque[_Job] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        metrics.watch("asr_queue_length", "Requests that wait for the model.", self._count)
        self._thread = threading.Thread(target=self._work, name="transcriber", daemon=True)
        self._thread.start()

    async def transcribe(self, path: Path, seconds: float) -> Transcript:
        """Return the transcript of a recording of that length.

        Whoever cancels this call gives the recording up, and no more work is put into it.

        Raises:
            AsrError: it cannot be transcribed.
        """
        job = _Job(path, seconds)
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()
        return await asyncio.wrap_future(job.future)

    async def call(self, function: Callable[[], Result]) -> Result:
        """Run a function that uses the model, which takes one thing at a time.

        It is thought to be short and urgent, and comes before the recordings that wait.
        """
        future: Future[Result] = Future()
        with self._changed:
            self._calls.append((function, future))
            self._changed.notify()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End the thread after the batch it works on; those that still wait are cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        for future in [job.future for job in self._waiting] + [call[1] for call in self._calls]:
            future.cancel()

    def _count(self) -> int:
        return len(self._waiting)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._calls or self._closed)
                if self._closed:
                    return
                oldest = self._waiting.popleft() if self._waiting else None
            self._answer_calls()
            if oldest:
                self._transcribe([oldest, *self._take(self.batch_seconds - oldest.seconds)])

    def _answer_calls(self) -> None:
        for _ in range(len(self._calls)):  # those that come meanwhile must not hold up the rest
            function, future = self._calls.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except Exception as error:  # the thread must outlive it
                    future.set_exception(error)

    def _take(self, room: float) -> list[_Job]:
        """Remove and return those that wait and fit together into ``room`` seconds."""
        taken, left = [], deque[_Job]()
        with self._changed:
            for job in self._waiting:
                if job.seconds <= room:
                    taken.append(job)
                    room -= job.seconds
                else:
                    left.append(job)
            self._waiting = left
        return taken

    def _transcribe(self, batch: list[_Job]) -> None:
        batch = [job for job in batch if not job.future.cancelled()]
        if not batch:
            return
        self.metrics.batch_size.observe(len(batch))
        try:
            results = self.transcriber.transcribe_many(
                [job.path for job in batch], self.batch_seconds, partial(self._between, batch)
            )
            for job, result in zip(batch, results, strict=True):
                self._finish(job, result)
        except _Abandoned:
            pass
        except Exception as error:  # the thread must outlive it, and those that wait hear of it
            for job in batch:
                self._finish(job, error)

    def _between(self, batch: list[_Job], _seconds: float) -> None:
        """Run between two parts of a batch."""
        if all(job.future.done() for job in batch):
            raise _Abandoned
        self._answer_calls()
        if batch[0].seconds > self.batch_seconds:
            self._transcribe(self._take(self.batch_seconds))

    def _finish(self, job: _Job, result: Transcript | Exception) -> None:
        with suppress(InvalidStateError):  # given up
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)
                self.metrics.audio.inc(result.duration)
