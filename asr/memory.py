"""Memory that a process keeps for itself between the steps of a training."""

import ctypes
import sys

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
