"""Marks tests of the native LSTM kernel, which not every machine can compile."""

import pytest

from asr.errors import ConfigError
from asr.models.native_lstm import _kernel


def _has_kernel() -> bool:
    try:
        _kernel()
    except ConfigError:
        return False
    return True


needs_kernel = pytest.mark.skipif(
    not _has_kernel(), reason="needs a C compiler and a CPU with AVX512-BF16"
)
