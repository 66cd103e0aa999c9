"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asr.errors import ConfigError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to, and move it there when all went well.

    After an error no file is left behind and an older one at ``path`` is untouched. A link stays,
    and the file that it names is replaced. What is no file, such as ``/dev/null`` or a pipe, is
    written to itself.

    Raises:
        OSError: the folder cannot be made or the file not be moved.
    """
    path = Path(path)
    if _is_device(path):
        yield path
        return
    path = _target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Refuse a place where no file can be written, before the work rather than after it.

    Raises:
        ConfigError: it is a folder, or none in which files can be made.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder; name a file to write")
        if _is_device(path):
            return
        probe_folder(_target(path).parent)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written: {error.strerror}; name another place"
        ) from error


def probe_folder(folder: Path) -> None:
    """See that files can be made in a folder, or where it will be, and leave nothing behind.

    Raises:
        OSError: they cannot.
    """
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    # tempfile would try for ever on Windows.
    probe = folder / f"asr.{secrets.token_hex(4)}.partial"
    probe.touch()
    probe.unlink(missing_ok=True)


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _target(path: Path) -> Path:
    """Follow links, of which /dev/stdout is one."""
    return Path(os.path.realpath(path))


def _partial(path: Path) -> Path:
    # A name has 255 bytes at most, and a number of a process may come twice on a shared disk.
    # ``with_name`` raises a ValueError for "."; moving a file there is an OSError.
    return path.parent / f"{path.name[:50]}.{secrets.token_hex(4)}.partial"
