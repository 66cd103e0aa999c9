"""Recordings in pieces, read from disk by a few threads ahead of the model."""

import os
import stat
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.audio import Waveform, iter_audio, warn_of_damage
from asr.errors import AsrError
from asr.segmentation import Piece, Segmenter

READ_AHEAD = 4  # recordings
BLOCKS = 4  # read at a time: two minutes


@dataclass(eq=False)
class Recording:
    """A recording on its way.

    Attributes:
        path: as it was named.
        duration: of what has been read, seconds.
        is_read: whether all its pieces are here.
        error: what kept it from being read.
        warning: why a part of it could not be read.
    """

    path: str
    duration: float = 0.0
    is_read: bool = False
    error: AsrError | None = None
    warning: str | None = None


def read_ahead(
    paths: Iterable[str | Path], sample_rate: int, *, whole: bool = False
) -> Generator[tuple[Recording, list[Piece]], None, None]:
    """Yield recordings in the order given, each once or more, with its next pieces.

    However long they are, no more than some minutes of sound are held.

    Args:
        paths: the recordings.
        sample_rate: of the pieces, Hz.
        whole: give each recording in one piece instead.
    """
    waiting = iter(paths)
    # What has to be waited for is read when its turn comes, here: a thread that waits for input
    # ignores Ctrl-C.
    ahead: deque[tuple[_Reader, Future[tuple[list[Piece], bool]] | None]] = deque()
    pool = ThreadPoolExecutor(min(READ_AHEAD, os.cpu_count() or 1))
    try:
        while True:
            while len(ahead) <= READ_AHEAD and (path := next(waiting, None)) is not None:
                reader = _Reader(path, sample_rate, _Whole() if whole else Segmenter(sample_rate))
                ahead.append((reader, None if _is_pipe(path) else pool.submit(reader.read)))
            if not ahead:
                return
            reader, future = ahead[0]
            pieces, reader.recording.is_read = future.result() if future else reader.read()
            if reader.recording.is_read:
                ahead.popleft()
            elif future:
                ahead[0] = reader, pool.submit(reader.read)
            yield reader.recording, pieces
    finally:
        pool.shutdown(cancel_futures=True)
        for reader, _ in ahead:
            reader.close()


def _is_pipe(path: str | Path) -> bool:
    if path == "-":
        return True
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):  # reading it will tell
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


class _Reader:
    """Cuts one recording, a few blocks at a time, on whichever thread asks."""

    def __init__(self, path: str | Path, sample_rate: int, segmenter: "Segmenter | _Whole") -> None:
        self.recording = Recording(str(path))
        self._sample_rate = sample_rate
        self._segmenter = segmenter
        self._blocks = iter_audio(path, sample_rate, on_damage=self._warn)
        self._samples = 0

    def read(self) -> tuple[list[Piece], bool]:
        """Return the next pieces, and whether they are the last."""
        pieces: list[Piece] = []
        try:
            for _ in range(BLOCKS):
                block = next(self._blocks, None)
                if block is None:
                    return [*pieces, *self._segmenter.finish()], True
                pieces += self._segmenter.add(block)
                self._samples += len(block)
                self.recording.duration = self._samples / self._sample_rate
        except AsrError as error:
            self.recording.error = error
            return [], True
        return pieces, False

    def close(self) -> None:
        """Leave the rest unread."""
        self._blocks.close()

    def _warn(self, message: str) -> None:
        self.recording.warning = message
        warn_of_damage(message)


class _Whole:
    """Stands in for a segmenter that does not cut."""

    def __init__(self) -> None:
        self.blocks: list[Waveform] = []

    def add(self, block: Waveform) -> list[Piece]:
        self.blocks.append(block)
        return []

    def finish(self) -> list[Piece]:
        waveform = np.concatenate(self.blocks)
        return [Piece(waveform, 0, 0, len(waveform))]
