"""Memory that a process keeps for itself: freed blocks, and objects that are there to stay."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of mallopt(3), as malloc.h numbers them.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
MOST_KEPT = 2**30  # bytes


def keep_freed_memory() -> None:
    """Let glibc keep blocks that are freed, up to a gigabyte, for the next of their size.

    Without this, a training step gives its large tensors back to the system one by one and gets
    the next ones as fresh pages, which the system has to zero: a sixth of the time of a step
    (``benchmarks/README.md``). Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(TRIM_THRESHOLD, MOST_KEPT)
        mallopt(MMAP_THRESHOLD, MOST_KEPT)


@contextmanager
def paused_collection() -> Iterator[None]:
    """Let Python not look for unreachable objects while many are made that stay.

    The words of a language model and their phones are some hundred thousand small objects, and
    each few hundred of them make it look again: a tenth of the time to load the packaged model.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
