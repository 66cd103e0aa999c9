"""Fetching and unpacking archives: resumed, retried, verified, and whole or not there at all."""

import errno
import gzip
import hashlib
import shutil
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import rich.progress
from rich.console import Console
from rich.filesize import decimal
from rich.progress import Progress

from asr.errors import DownloadError

CHUNK = 1 << 20  # bytes
TIMEOUT = 30.0  # seconds without a byte


class _InterruptedError(Exception):
    """The transfer stopped; another try may succeed."""


def download(
    url: str, path: Path, checksum: str | None, *, retries: int = 5, pause: float = 1.0
) -> None:
    """Fetch a file unless it is there; a started one (``NAME.partial``) is continued.

    The file gets its name only once its size and checksum are right. Progress shows on stderr.

    Args:
        url: address, http or https.
        path: where the file goes; its folder is made.
        checksum: ``md5:HEX`` or ``sha256:HEX``; ``None`` where none is published, which leaves
            the size that the server announces as the only check.
        retries: how many tries in a row may bring no new byte before giving up.
        pause: seconds to wait before a new try, doubled after each that brought nothing.

    Raises:
        DownloadError: the server refuses, the connection fails too often, the disk is full, or
            the checksum differs (the fetched file is then removed).
    """
    if path.exists():
        return
    partial = path.with_name(path.name + ".partial")
    with _disk_errors(partial):
        path.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = _size(partial)
        try:
            _fetch(url, partial)
            break
        except _InterruptedError as error:
            failures = 0 if _size(partial) > before else failures + 1
            if failures > retries:
                raise DownloadError(
                    f"{url}: {error}; check the network and run again, it goes on from "
                    f"{decimal(_size(partial))}"
                ) from error
            wait = pause * 2**failures
            print(f"{error}; trying again in {wait:.0f} s", file=sys.stderr)
            time.sleep(wait)
    if checksum is not None:
        _verify(partial, checksum, url)
    with _disk_errors(path):
        partial.replace(path)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a ``tar.gz`` archive into a new folder.

    The folder appears only when all members are out. Progress shows on stderr.

    Raises:
        DownloadError: the archive is damaged, holds a link, a device or a member that would
            leave the folder, the folder exists, or the disk is full; nothing stays behind.
    """
    if folder.exists():
        raise DownloadError(f"{folder}: exists already; remove it to unpack {archive.name} again")
    partial = folder.with_name(folder.name + ".partial")
    needed = _size(archive)  # a lower bound: compressed audio hardly shrinks
    try:
        with _disk_errors(partial, needed):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _check_space(partial, needed)
            _extract(archive, partial)
            partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fetch(url: str, partial: Path) -> None:
    """Bring ``partial`` to its full size with one request."""
    start = _size(partial)
    headers = {"User-Agent": "asr", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        _refused(error, url, partial)
        return
    except (OSError, HTTPException) as error:
        raise _InterruptedError(f"no connection ({getattr(error, 'reason', error)})") from error
    except ValueError as error:
        raise DownloadError(f"{url}: not an address; give one that starts with https://") from error
    with response:
        _receive(response, partial, url.rpartition("/")[2])


def _receive(response: HTTPResponse, partial: Path, name: str) -> None:
    """Append the body to ``partial``, or start it anew if the server sends the whole file."""
    start = _size(partial)
    resumed = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    if not resumed:
        start = 0
    length = response.headers["Content-Length"]
    total = start + int(length) if length else None
    needed = int(length or 0)
    with _disk_errors(partial, needed), _progress() as progress:
        _check_space(partial.parent, needed)
        task = progress.add_task(name, total=total, completed=start)
        with partial.open("ab" if resumed else "wb") as file:
            for chunk in _chunks(response):
                file.write(chunk)
                progress.advance(task, len(chunk))
    if total is not None and _size(partial) != total:
        raise _InterruptedError(f"the connection was cut at {_size(partial)} of {total} bytes")


def _refused(error: HTTPError, url: str, partial: Path) -> None:
    """Return if the partial file is whole, else raise what the status asks for."""
    with error:
        if error.code == 416:  # nothing beyond what we have: whole, or not the file it was
            if error.headers.get("Content-Range") == f"bytes */{_size(partial)}":
                return
            partial.unlink()
            raise _InterruptedError("the file on the server has changed") from error
        if error.code in (408, 429) or error.code >= 500:
            raise _InterruptedError(f"HTTP status {error.code} {error.reason}") from error
        raise DownloadError(
            f"{url}: HTTP status {error.code} {error.reason}; check the address or try a mirror"
        ) from error


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    """Yield what the server sends, and tell trouble with it from trouble with the disk."""
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _InterruptedError(f"the connection was cut ({error})") from error


def _verify(partial: Path, checksum: str, url: str) -> None:
    algorithm, _, expected = checksum.partition(":")
    digest = hashlib.new(algorithm)
    with (
        _disk_errors(partial),
        rich.progress.open(
            partial, "rb", description=f"checking {algorithm}", console=Console(stderr=True)
        ) as file,
    ):
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != expected.lower():
        partial.unlink()
        raise DownloadError(
            f"{url}: {algorithm} is {digest.hexdigest()} instead of {expected}; the file was "
            "removed, run again or try a mirror"
        )


def _extract(archive: Path, folder: Path) -> None:
    try:
        with (
            rich.progress.open(
                archive, "rb", description=f"unpacking {archive.name}", console=Console(stderr=True)
            ) as file,
            gzip.open(file) as unzipped,
            tarfile.open(fileobj=unzipped, mode="r:") as tar,
        ):
            # The standard library's own guard, in Pythons that have it, behind ours.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            for member in tar:
                _check_member(archive, member, folder)
                tar.extract(member, folder)
            while unzipped.read(CHUNK):  # the checksum comes last, after tar's own end mark
                pass
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DownloadError(
            f"{archive}: damaged archive ({error}); remove it and run again"
        ) from error


def _check_member(archive: Path, member: tarfile.TarInfo, folder: Path) -> None:
    if not (member.isfile() or member.isdir()):
        raise DownloadError(f"{archive}: {member.name!r} is a link or device; do not trust it")
    target = (folder / member.name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise DownloadError(f"{archive}: {member.name!r} would leave its folder; do not trust it")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_space(folder: Path, needed: int) -> None:
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, "No space left on device")


@contextmanager
def _disk_errors(path: Path, needed: int = 0) -> Iterator[None]:
    """Turn disk trouble into one line; ``needed`` is how many bytes are to be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            raise DownloadError(f"{path}: {error.strerror or error}") from error
        free = shutil.disk_usage(path.parent).free
        raise DownloadError(
            f"{path}: the disk is full, {decimal(needed)} needed and {decimal(free)} free; "
            "make room and run again"
        ) from error


def _progress() -> Progress:
    return Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.DownloadColumn(),
        rich.progress.TransferSpeedColumn(),
        rich.progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
