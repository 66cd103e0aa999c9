"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from asr.atomic import check_writable, whole_file
from asr.errors import ConfigError


def test_the_file_appears_when_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with whole_file(path) as partial:
        partial.write_text("text")
        assert not path.exists()
    assert path.read_text() == "text"
    assert list(path.parent.iterdir()) == [path]


def test_after_an_error_the_older_file_stands(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as partial:
        partial.write_text("half of the ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_may_be_as_long_as_any(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".txt")
    check_writable(path)
    with whole_file(path) as partial:
        partial.write_text("text")
    assert path.read_text() == "text"


def test_what_is_no_file_is_written_to_itself(tmp_path: Path) -> None:
    null = Path("/dev/null")
    if not null.exists():
        pytest.skip("no /dev/null here")
    check_writable(null)
    with whole_file(null) as path:
        assert path == null
    assert null.is_char_device()


def test_a_link_stays_and_the_file_that_it_names_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "folder" / "file.txt", tmp_path / "link"
    link.symlink_to(target)
    for text in ("text", "other text"):  # first it names no file yet
        check_writable(link)
        with whole_file(link) as partial:
            partial.write_text(text)
        assert link.readlink() == target and target.read_text() == text
    assert list(target.parent.iterdir()) == [target]


def test_what_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    check_writable(path)
    assert list(tmp_path.iterdir()) == []
    path.parent.mkdir()
    path.write_text("old")
    check_writable(path)
    assert path.read_text() == "old"
    with pytest.raises(ConfigError, match="new: is a folder"):
        check_writable(path.parent)
    with pytest.raises(ConfigError, match=r"below: cannot be written: .*; name another place"):
        check_writable(path / "below")


def test_a_folder_is_no_file_however_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (".", "..", ""):
        with pytest.raises(ConfigError, match=r"^\.\.?: is a folder"):
            check_writable(Path(name))
        with pytest.raises(OSError), whole_file(name) as partial:
            partial.write_text("text")
    assert list(tmp_path.iterdir()) == []
