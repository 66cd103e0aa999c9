"""Files that live as long as a request."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def temporary_file() -> Iterator[Path]:
    """Give the path of a file that does not exist yet and goes with its folder in the end."""
    with tempfile.TemporaryDirectory(prefix="asr-", ignore_cleanup_errors=True) as folder:
        yield Path(folder, "audio")
