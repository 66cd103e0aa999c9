import errno
import gzip
import hashlib
import io
import random
import tarfile
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer

from asr.data import download as module
from asr.data.download import download, unpack
from asr.errors import DownloadError

CONTENT = random.Random(0).randbytes(3_000_000)
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()

pytestmark = pytest.mark.timeout(20)  # a download that never ends would fill the disk


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({"/speech.tar.gz": CONTENT}) as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "speech.tar.gz"


def partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def fetch(server: FileServer, path: Path, checksum: str | None = SHA256, retries: int = 2) -> None:
    download(f"{server.url}/speech.tar.gz", path, checksum, retries=retries, pause=0)


@pytest.mark.parametrize("checksum", [MD5, SHA256, SHA256.upper().replace("SHA", "sha"), None])
def test_whole_file(server: FileServer, path: Path, checksum: str | None) -> None:
    fetch(server, path, checksum)
    assert path.read_bytes() == CONTENT
    assert not partial(path).exists()


def test_finished_file_is_not_fetched_again(server: FileServer, path: Path) -> None:
    fetch(server, path)
    fetch(server, path)
    assert len(server.requests) == 1


def test_partial_file_is_resumed(server: FileServer, path: Path) -> None:
    path.parent.mkdir()
    partial(path).write_bytes(CONTENT[:1_234_567])
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert server.requests == [("/speech.tar.gz", "bytes=1234567-")]


def test_cut_connection_goes_on_where_it_was(server: FileServer, path: Path) -> None:
    server.cuts = [1_000_000, 500_000, 0]
    fetch(server, path, None)
    assert path.read_bytes() == CONTENT
    ranges = [wanted for _, wanted in server.requests]
    assert ranges == [None, "bytes=1000000-", "bytes=1500000-", "bytes=1500000-"]


def test_tries_that_bring_something_do_not_count(server: FileServer, path: Path) -> None:
    server.cuts = [100] * 10
    fetch(server, path, retries=0)
    assert path.read_bytes() == CONTENT


def test_given_up_download_keeps_what_it_has(server: FileServer, path: Path) -> None:
    server.cuts = [1_000_000, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"cut at 1000000 of 3000000 bytes.*run again"):
        fetch(server, path)
    assert not path.exists()
    assert partial(path).read_bytes() == CONTENT[:1_000_000]
    fetch(server, path)
    assert path.read_bytes() == CONTENT


def test_server_without_ranges_sends_all_again(server: FileServer, path: Path) -> None:
    server.ranges = False
    server.cuts = [1_000_000]
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_partial_file_that_is_whole_already(server: FileServer, path: Path) -> None:
    path.parent.mkdir()
    partial(path).write_bytes(CONTENT)
    fetch(server, path)
    assert path.read_bytes() == CONTENT


def test_partial_file_longer_than_the_file_is_fetched_anew(server: FileServer, path: Path) -> None:
    path.parent.mkdir()
    partial(path).write_bytes(CONTENT + b"more")
    fetch(server, path)
    assert path.read_bytes() == CONTENT


def test_wrong_checksum_leaves_no_file(server: FileServer, path: Path) -> None:
    with pytest.raises(DownloadError, match=r"md5 is .* instead of 0000"):
        fetch(server, path, "md5:0000")
    assert not list(path.parent.iterdir())


def test_partial_file_of_another_file_is_found_out(server: FileServer, path: Path) -> None:
    path.parent.mkdir()
    partial(path).write_bytes(b"x" * 1000)
    with pytest.raises(DownloadError, match="run again"):
        fetch(server, path)
    fetch(server, path)
    assert path.read_bytes() == CONTENT


def test_server_errors_are_tried_again(
    server: FileServer, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.statuses = [503, 429]
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert "HTTP status 503 Service Unavailable; trying again" in capsys.readouterr().err


def test_lasting_server_error(server: FileServer, path: Path) -> None:
    server.statuses = [500] * 3
    with pytest.raises(DownloadError, match="HTTP status 500"):
        fetch(server, path)
    assert len(server.requests) == 3


def test_missing_file_is_not_tried_again(server: FileServer, path: Path) -> None:
    server.files.clear()
    with pytest.raises(DownloadError, match="404 Not Found; check the address"):
        fetch(server, path)
    assert len(server.requests) == 1


def test_no_server(path: Path) -> None:
    with FileServer({}) as gone:
        pass
    with pytest.raises(DownloadError, match="check the network"):
        fetch(gone, path)


def test_no_address(path: Path) -> None:
    with pytest.raises(DownloadError, match="not an address"):
        download("speech.tar.gz", path, None)


def test_silent_server_is_given_up(
    server: FileServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    over = threading.Event()
    monkeypatch.setattr(server, "finish_request", lambda *_: over.wait())
    with pytest.raises(DownloadError, match="timed out"):
        fetch(server, path)
    over.set()


def test_disk_too_small_is_told_before_writing(
    server: FileServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_disk(monkeypatch, free=1_000_000)
    with pytest.raises(DownloadError, match=r"disk is full, 3\.0 MB needed and 1\.0 MB free"):
        fetch(server, path)
    assert not path.exists()
    assert not partial(path).exists()


def test_disk_that_fills_up_while_writing(
    server: FileServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(Path, "open", full_after(1_500_000))
        with pytest.raises(DownloadError, match=r"disk is full.*run again"):
            fetch(server, path)
    assert len(server.requests) == 1, "a full disk is no reason to try again"
    assert not path.exists()
    fetch(server, path)
    assert path.read_bytes() == CONTENT


def small_disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - free, free)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)


def full_after(size: int):
    """Return a ``Path.open`` whose files take ``size`` bytes and then report a full disk."""

    class Full(io.FileIO):
        def write(self, data: bytes) -> int:
            if self.tell() + len(data) > size:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    return lambda self, mode: Full(self, mode)


# --- archives ---


def make_archive(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def test_unpack(tmp_path: Path) -> None:
    members = {"a/b/one.txt": b"one", "./two.txt": b"two"}
    archive = make_archive(tmp_path / "x.tar.gz", members)
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "a" / "b" / "one.txt").read_bytes() == b"one"
    assert (tmp_path / "out" / "two.txt").read_bytes() == b"two"


def test_unpack_clears_what_an_interrupted_one_left(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "x.tar.gz", {"one.txt": b"one"})
    left = tmp_path / "out.partial" / "half.txt"
    left.parent.mkdir()
    left.write_text("half")
    unpack(archive, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["one.txt"]


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "evil",
    [
        {"../evil.txt": b"evil"},
        {"a/../../evil.txt": b"evil"},
        {"{root}/evil.txt": b"evil"},
        {"link": link("link", ".."), "link/evil.txt": b"evil"},
        {"link": link("link", "../secret", tarfile.LNKTYPE)},
        {"pipe": link("pipe", "", tarfile.FIFOTYPE)},
    ],
    ids=["parent", "hidden parent", "absolute", "symbolic link", "hard link", "device"],
)
@pytest.mark.parametrize("guard", ["data_filter", "ours alone"])
def test_member_that_would_leave_the_folder(
    tmp_path: Path, evil: dict[str, bytes], guard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if guard == "ours alone":
        # Python gained such filters in 3.10.12 and 3.11.4 only.
        monkeypatch.setattr(
            module.tarfile, "data_filter", lambda member, path: member, raising=False
        )
    (tmp_path / "secret").write_text("secret")
    evil = {name.format(root=tmp_path): content for name, content in evil.items()}
    archive = make_archive(tmp_path / "x.tar.gz", {"good.txt": b"good"} | evil)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DownloadError, match="do not trust it"):
        unpack(archive, tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.9999999])
def test_archive_cut_short(tmp_path: Path, share: float) -> None:
    archive = make_archive(tmp_path / "x.tar.gz", {"a": CONTENT, "b": CONTENT[:99]})
    data = archive.read_bytes()
    archive.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DownloadError, match=r"x\.tar\.gz: damaged archive"):
        unpack(archive, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["x.tar.gz"]


@pytest.mark.parametrize("content", [b"not an archive", gzip.compress(b"no tar" * 999)])
def test_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar.gz").write_bytes(content)
    with pytest.raises(DownloadError, match="damaged archive"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out")


def test_damaged_byte_in_archive(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "x.tar.gz", {"a": CONTENT})
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(DownloadError, match="damaged archive"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unpacking_onto_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_archive(tmp_path / "x.tar.gz", {"a": CONTENT})
    small_disk(monkeypatch, free=1_000_000)
    with pytest.raises(DownloadError, match=r"3\.0 MB needed and 1\.0 MB free"):
        unpack(archive, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["x.tar.gz"]


def test_disk_that_fills_up_while_unpacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_archive(tmp_path / "x.tar.gz", {"a": CONTENT[:99], "b": CONTENT})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.tarfile.TarFile, "makefile", full)
    with pytest.raises(DownloadError, match="disk is full"):
        unpack(archive, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["x.tar.gz"]


def test_folder_that_exists_is_not_touched(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "x.tar.gz", {"a": b"new"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("old")
    with pytest.raises(DownloadError, match="exists already"):
        unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "a").read_text() == "old"
