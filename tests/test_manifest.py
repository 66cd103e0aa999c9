import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.errors import ManifestError

LINE = {"audio_filepath": "a/one.wav", "duration": 1.5, "text": "HELLO"}


def write_lines(path: Path, *lines: object, end: str = "\n", encoding: str = "utf-8") -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_bytes("".join(text + end for text in texts).encode(encoding))
    return path


def test_paths_count_from_the_manifest(tmp_path: Path) -> None:
    manifest = write_lines(tmp_path / "m.jsonl", LINE)
    assert read_manifest(manifest) == [
        Utterance("one", manifest.parent / "a" / "one.wav", 1.5, "HELLO", speaker="")
    ]


def test_absolute_paths_stay(tmp_path: Path) -> None:
    audio = str(tmp_path / "elsewhere" / "two.wav")
    manifest = write_lines(tmp_path / "m.jsonl", LINE | {"audio_filepath": audio})
    assert read_manifest(manifest)[0].audio == Path(audio)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n  \n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_line_ends_and_byte_order_mark(tmp_path: Path, end: str, encoding: str) -> None:
    lines = [LINE | {"id": "x", "text": "ÉTÉ \u2028 one line"}, LINE | {"id": 0, "speaker": 0}]
    manifest = write_lines(tmp_path / "m.jsonl", *lines, end=end, encoding=encoding)
    x, y = read_manifest(manifest)
    assert (x.id, x.text) == ("x", "ÉTÉ \u2028 one line")
    assert (y.id, y.speaker) == ("0", "0")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "not a JSON object: nested too deeply"),
        ({"audio_filepath": "a", "duration": 1}, "lacks the key 'text'"),
        ({"audio_filepath": "a", "text": ""}, "lacks the key 'duration'"),
        (LINE | {"text": None}, "must be strings"),
        (LINE | {"audio_filepath": 3}, "must be strings"),
        (LINE | {"duration": "1.5"}, "number of seconds"),
        (LINE | {"duration": True}, "number of seconds"),
        (LINE | {"duration": 0}, "above 0"),
        (LINE | {"duration": -1}, "above 0"),
        (LINE | {"duration": float("nan")}, "finite"),
        (LINE | {"duration": float("inf")}, "finite"),
        (LINE | {"duration": 10**400}, "finite"),
        ("1" * 5000, "not a JSON object: a number has too many digits"),
        (LINE | {"offset": 2.5}, "offset is not supported"),
        (LINE, "id 'one' comes twice"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, line: object, message: str) -> None:
    manifest = write_lines(tmp_path / "m.jsonl", LINE, "", line)
    with pytest.raises(ManifestError, match=message) as error:
        read_manifest(manifest)
    assert str(error.value).startswith(f"{manifest}:3: ")
    assert "\n" not in str(error.value)


def test_missing_empty_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such manifest"):
        read_manifest(tmp_path / "none.jsonl")
    with pytest.raises(ManifestError, match="cannot read"):
        read_manifest(tmp_path)
    with pytest.raises(ManifestError, match="empty"):
        read_manifest(write_lines(tmp_path / "empty.jsonl", "", " "))
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="cannot read"):
        read_manifest(tmp_path / "binary.jsonl")


texts = st.text(st.characters(blacklist_categories=["Cs"]))
names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            Utterance,
            id=st.text(st.characters(blacklist_categories=["Cs"]), min_size=1),
            audio=st.lists(names, min_size=1, max_size=3).map(lambda parts: Path(*parts)),
            duration=st.floats(1e-6, 1e5).map(lambda seconds: round(seconds, 6)),
            text=texts,
            speaker=texts,
        ),
        min_size=1,
        unique_by=lambda utterance: utterance.id,
    )
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, utterances: list[Utterance]
) -> None:
    folder = tmp_path_factory.mktemp("manifest")
    there = [Utterance(u.id, folder / u.audio, u.duration, u.text, u.speaker) for u in utterances]
    assert write_manifest(folder / "m.jsonl", there) == len(there)
    assert read_manifest(folder / "m.jsonl") == there


def test_corpus_moves_with_its_manifest(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    inside = Utterance("in", old / "audio" / "in.wav", 1.0, "IN")
    outside = Utterance("out", tmp_path / "out.wav", 1.0, "OUT")
    write_manifest(old / "m.jsonl", [inside, outside])
    old.rename(new)
    moved = read_manifest(new / "m.jsonl")
    assert [u.audio for u in moved] == [new / "audio" / "in.wav", tmp_path / "out.wav"]


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "4f2a").write_bytes(b"sound")
    try:
        (tmp_path / "one.wav").symlink_to(tmp_path / "store" / "4f2a")
    except OSError:
        pytest.skip("this system lets users make no links")
    write_manifest(tmp_path / "m.jsonl", [Utterance("one", tmp_path / "one.wav", 1.0, "ONE")])
    assert read_manifest(tmp_path / "m.jsonl")[0].audio == tmp_path / "one.wav"


def test_failed_write_leaves_the_old_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    good = Utterance("one", tmp_path / "one.wav", 1.0, "ONE")
    write_manifest(path, [good])

    def broken():
        yield good
        raise ManifestError("the corpus is broken")

    with pytest.raises(ManifestError, match="broken"):
        write_manifest(path, broken())
    assert read_manifest(path) == [good]
    assert [file.name for file in tmp_path.iterdir()] == ["m.jsonl"]


def test_manifest_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ManifestError, match="cannot write"):
        write_manifest(tmp_path / "file" / "m.jsonl", [])
    half = Utterance("one", tmp_path / "\udcff.wav", 1.0, "a name that is no UTF-8")
    with pytest.raises(ManifestError, match="cannot write"):
        write_manifest(tmp_path / "m.jsonl", [half])
