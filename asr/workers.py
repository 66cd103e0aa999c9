"""Transcription by several processes, each with a copy of the model."""

import signal
import sys
import threading
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from asr.errors import AsrError, AsrWarning, AudioWarning, ConfigError
from asr.interrupts import deaf_to_ctrl_c
from asr.transcriber import BATCH_SECONDS, OnProgress, OnSegment, Transcriber, Transcript

MOST_AT_ONCE = 32  # recordings that a process is given, to batch them together
SHARES = 4  # of each process at least, so that all are busy to the end
TRIES = 2
PATIENCE = 5.0  # seconds for a process to clear up

Task = list[tuple[int, str]]  # place and path of each recording


def transcribe_in_processes(
    load: Callable[[], Transcriber],
    paths: Sequence[str | Path],
    jobs: int,
    batch_seconds: float = BATCH_SECONDS,
    on_progress: OnProgress | None = None,
    on_segment: OnSegment | None = None,
) -> Iterator[tuple[int, Transcript | AsrError]]:
    """Transcribe recordings in ``jobs`` processes, which share out torch's threads.

    A process that dies takes nothing with it: each recording it worked on is tried once more,
    by itself, in another process.

    Args:
        load: makes a process's own model; must be picklable.
        paths: the recordings.
        jobs: processes.
        batch_seconds: most audio in a batch, padding included.
        on_progress: called with the seconds of audio done.
        on_segment: called with the place of a recording among ``paths`` and each of its segments.

    Yields:
        The place of each recording and its transcript, or the error that kept it from being
        transcribed, as they are ready.

    Raises:
        AsrError: the model cannot be loaded or used.
        OSError: a file cannot be read or written meanwhile.
    """
    pool = _Pool(load, paths, jobs, batch_seconds)
    try:
        while pool.unfinished:
            for kind, *content in pool.messages():
                if kind == "result":
                    yield content[0], content[1]
                elif kind == "segment" and on_segment:
                    on_segment(*content)
                elif kind == "progress" and on_progress:
                    on_progress(*content)
                elif kind == "warning":
                    warnings.warn(content[0], AudioWarning, stacklevel=2)
                elif kind == "error":
                    raise content[0]
    finally:
        pool.close()


@dataclass(eq=False)
class _Worker:
    """A process, and what it has not finished yet."""

    process: BaseProcess
    connection: Connection
    is_ready: bool = False
    task: dict[int, str] = field(default_factory=dict)


class _Pool:
    """Hands recordings out to processes, and again where one died."""

    def __init__(
        self,
        load: Callable[[], Transcriber],
        paths: Sequence[str | Path],
        jobs: int,
        batch_seconds: float,
    ) -> None:
        numbered = list(enumerate(map(str, paths)))
        size = max(1, min(MOST_AT_ONCE, len(numbered) // (jobs * SHARES)))
        self._waiting: deque[Task] = deque(
            numbered[i : i + size] for i in range(0, len(numbered), size)
        )
        self.unfinished = len(numbered)
        self._deaths: Counter[int] = Counter()
        self._arguments = (load, max(1, torch.get_num_threads() // jobs), batch_seconds)
        self._workers: list[_Worker] = []
        for _ in range(min(jobs, len(self._waiting))):
            self._start()

    def messages(self) -> Iterator[tuple[Any, ...]]:
        """Yield what the processes say next; a ``result`` for each recording in the end."""
        for ready in wait([worker.connection for worker in self._workers]):
            [worker] = [worker for worker in self._workers if worker.connection is ready]
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                yield from self._bury(worker)
                continue
            if message[0] == "idle":
                worker.is_ready = True
            elif message[0] == "result":
                self.unfinished -= 1
                del worker.task[message[1]]
            yield message
        self._hand_out()

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.process.terminate()
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(PATIENCE)
            worker.process.kill()

    def _start(self) -> None:
        context = get_context("spawn")  # forking beside torch's threads can hang
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, *self._arguments), daemon=True)
        with deaf_to_ctrl_c():
            process.start()
        theirs.close()  # so that its end closes when the process dies
        self._workers.append(_Worker(process, ours))

    def _hand_out(self) -> None:
        for worker in self._workers:
            if self._waiting and worker.is_ready and not worker.task:
                task = self._waiting.popleft()
                worker.task = dict(task)
                with suppress(OSError):  # it died: the next message tells
                    worker.connection.send(task)

    def _bury(self, worker: _Worker) -> Iterator[tuple[Any, ...]]:
        """Give the recordings of a dead process to another."""
        worker.connection.close()
        worker.process.join()
        self._workers.remove(worker)
        for number, path in worker.task.items():
            self._deaths[number] += 1
            if self._deaths[number] < TRIES:
                self._waiting.appendleft([(number, path)])
                continue
            self.unfinished -= 1
            yield (
                "result",
                number,
                ConfigError(
                    f"{path}: {TRIES} processes died over it, perhaps for want of memory; "
                    "use fewer --jobs"
                ),
            )
        if worker.is_ready and self._waiting:
            self._start()
        if self.unfinished and not self._workers:
            raise ConfigError(
                "the processes died while they loaded the model, perhaps for want of memory; "
                "use fewer --jobs"
            )


def _work(
    connection: Connection, load: Callable[[], Transcriber], threads: int, batch_seconds: float
) -> None:
    """Transcribe what comes until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    lock = threading.Lock()  # warnings come from threads that read

    def tell(*message: Any) -> None:
        with lock:
            connection.send(message)

    def warn(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, AsrWarning):
            tell("warning", str(message))

    try:
        warnings.simplefilter("always", AsrWarning)
        warnings.showwarning = warn
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # a model half loaded leaves files
        transcriber = load()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        while True:
            tell("idle")
            _transcribe(transcriber, connection.recv(), batch_seconds, tell)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # nobody waits any more
    except (AsrError, OSError) as error:
        tell("error", error)


def _transcribe(
    transcriber: Transcriber, task: Task, batch_seconds: float, tell: Callable[..., None]
) -> None:
    numbers = [number for number, _ in task]
    results = transcriber.transcribe_many(
        [path for _, path in task],
        batch_seconds,
        lambda seconds: tell("progress", seconds),
        lambda place, segment: tell("segment", numbers[place], segment),
    )
    for number, result in zip(numbers, results, strict=True):
        tell("result", number, result)
