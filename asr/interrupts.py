"""Ctrl-C, which reaches all processes of a terminal, while one of them answers it."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Let children that are started meanwhile ignore Ctrl-C.

    They inherit the mask for good; here, what comes meanwhile is answered at the end.
    """
    if sys.platform == "win32":  # has no masks
        yield
        return
    # Python starts this beside the first child, and lifts the mask as it does so.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
