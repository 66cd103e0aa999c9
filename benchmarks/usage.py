"""What a command needs. For systems that tell it of a finished process (Linux, macOS)."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


class Usage(NamedTuple):
    """Time by the wall and of CPU in seconds, and the most memory resident in bytes."""

    seconds: float
    cpu_seconds: float
    peak_bytes: float


def usage_of(arguments: Sequence[object]) -> Usage:
    """Return what ``asr`` with these arguments needs; its own processes count for CPU time."""
    command = [sys.executable, "-m", "asr", *map(str, arguments)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"asr {arguments[0]} failed with exit code {process.returncode}")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Usage(time.perf_counter() - start, cpu_seconds, usage.ru_maxrss * MAXRSS_UNIT)
