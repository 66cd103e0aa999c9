"""Memory is kept from one block to the next, and left alone while it fills."""

import gc
import platform
import subprocess
import sys

import pytest

from asr.memory import paused_collection

PAGE_FAULTS = """
import resource, sys
import numpy as np
from asr.memory import keep_freed_memory

def fill():
    np.ones(50_000_000, dtype=np.uint8)  # above the 32 MB up to which glibc learns by itself

if sys.argv[1] == "keep":
    keep_freed_memory()
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    command = [sys.executable, "-c", PAGE_FAULTS, mode]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_blocks_are_not_fetched_anew() -> None:
    assert page_faults("keep") < page_faults("as it is") / 10


def test_nothing_is_collected_while_it_is_paused() -> None:
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), paused_collection():
        assert not gc.isenabled()
        with paused_collection():
            pass
        assert not gc.isenabled()
        _ = 1 / 0
    assert gc.isenabled()
