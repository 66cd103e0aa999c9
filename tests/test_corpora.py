import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner

from asr.cli import prepare as command
from asr.data.corpora import READERS, read_corpus
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.errors import ManifestError


def make_audio(path: Path, seconds: float = 0.5, sample_rate: int = 16_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.1 * np.sin(np.arange(int(seconds * sample_rate)) * 0.3)
    opus = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
    soundfile.write(path, tone, sample_rate, **opus)
    return path


def make_librispeech(folder: Path, suffix: str = ".flac") -> Path:
    chapter = folder / "19" / "198"
    make_audio(chapter / f"19-198-0000{suffix}", 0.5)
    make_audio(chapter / f"19-198-0001{suffix}", 0.75)
    make_audio(folder / "26" / "495" / f"26-495-0000{suffix}", 1.0)
    (chapter / "19-198.trans.txt").write_text("19-198-0000 NORTHANGER ABBEY\n19-198-0001 THIS\n")
    (folder / "26" / "495" / "26-495.trans.txt").write_text("26-495-0000 IT'S LATE\n")
    return folder


def make_ljspeech(folder: Path) -> Path:
    make_audio(folder / "wavs" / "LJ001-0001.wav", 0.5, 22_050)
    make_audio(folder / "wavs" / "LJ001-0002.wav", 0.75, 22_050)
    make_audio(folder / "wavs" / "LJ001-0003.wav", 1.0, 22_050)
    lines = [
        'LJ001-0001|He said "no|He said "no',
        "LJ001-0002|in 1455|in fourteen",
        "LJ001-0003|so|",
    ]
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def make_csv(folder: Path) -> Path:
    make_audio(folder / "a" / "1.wav", 0.5)
    make_audio(folder / "b" / "1.wav", 0.75)
    table = folder / "list.csv"
    table.write_text('path,text,speaker\na/1.wav,"one, two",ann\nb/1.wav,"say ""hi""",bob\n')
    return table


def make_commonvoice(folder: Path) -> Path:
    make_audio(folder / "clips" / "common_voice_en_1.mp3", 0.5)
    make_audio(folder / "clips" / "common_voice_en_2.mp3", 0.75)
    table = folder / "train.tsv"
    table.write_text(
        "client_id\tpath\tsentence\tup_votes\n"
        'f00\tcommon_voice_en_1.mp3\t"Quoted" speech, it is.\t2\n'
        'ba5\tcommon_voice_en_2.mp3\tAn open " quote\t2\n'
    )
    return table


def make_kaldi(folder: Path) -> Path:
    one, two = make_audio(folder / "x" / "1.wav", 0.5), make_audio(folder / "x" / "2.wav", 0.75)
    (folder / "wav.scp").write_text(f"ann-1 {one}\nbob-2   {two}\n")
    (folder / "text").write_text("ann-1 HELLO THERE\nbob-2 BYE\n")
    (folder / "utt2spk").write_text("ann-1 ann\nbob-2 bob\n")
    return folder


def make_jsonl(folder: Path) -> Path:
    utterances = [
        Utterance("one", make_audio(folder / "x" / "1.wav", 0.5), 99.0, "HELLO", "ann"),
        Utterance("two", make_audio(folder / "x" / "2.wav", 0.75), 99.0, "BYE"),
    ]
    write_manifest(folder / "in.jsonl", utterances)
    return folder / "in.jsonl"


def make_deepspeech(folder: Path) -> Path:
    samples = []
    for name, seconds, text in (("a/1", 0.5, "HELLO THERE\n"), ("b/1", 0.75, "BYE")):
        make_audio(folder / "wav" / f"{name}.wav", seconds)
        (folder / f"{Path(name).parent}.txt").write_text(text, encoding="utf-8")
        samples.append({"wav_path": f"wav/{name}.wav", "transcript_path": f"{name[0]}.txt"})
    manifest = folder / "train.json"
    manifest.write_text(json.dumps({"root_path": str(folder), "samples": samples}))
    return manifest


EXPECTED = {
    "librispeech": [
        ("19-198-0000", "19/198/19-198-0000.flac", 0.5, "NORTHANGER ABBEY", "19"),
        ("19-198-0001", "19/198/19-198-0001.flac", 0.75, "THIS", "19"),
        ("26-495-0000", "26/495/26-495-0000.flac", 1.0, "IT'S LATE", "26"),
    ],
    "ljspeech": [
        ("LJ001-0001", "wavs/LJ001-0001.wav", 0.5, 'He said "no', ""),
        ("LJ001-0002", "wavs/LJ001-0002.wav", 0.75, "in fourteen", ""),
        ("LJ001-0003", "wavs/LJ001-0003.wav", 1.0, "so", ""),
    ],
    "csv": [
        ("a/1", "a/1.wav", 0.5, "one, two", "ann"),
        ("b/1", "b/1.wav", 0.75, 'say "hi"', "bob"),
    ],
    "commonvoice": [
        ("common_voice_en_1", "clips/common_voice_en_1.mp3", 0.5, '"Quoted" speech, it is.', "f00"),
        ("common_voice_en_2", "clips/common_voice_en_2.mp3", 0.75, 'An open " quote', "ba5"),
    ],
    "kaldi": [
        ("ann-1", "x/1.wav", 0.5, "HELLO THERE", "ann"),
        ("bob-2", "x/2.wav", 0.75, "BYE", "bob"),
    ],
    "jsonl": [("one", "x/1.wav", 0.5, "HELLO", "ann"), ("two", "x/2.wav", 0.75, "BYE", "")],
    "deepspeech": [
        ("{folder}/wav/a/1", "wav/a/1.wav", 0.5, "HELLO THERE", ""),
        ("{folder}/wav/b/1", "wav/b/1.wav", 0.75, "BYE", ""),
    ],
}
MAKERS: dict[str, Callable[[Path], Path]] = {
    "librispeech": make_librispeech,
    "ljspeech": make_ljspeech,
    "csv": make_csv,
    "commonvoice": make_commonvoice,
    "kaldi": make_kaldi,
    "jsonl": make_jsonl,
    "deepspeech": make_deepspeech,
}


@pytest.mark.parametrize("kind", READERS)
def test_every_layout(kind: str, tmp_path: Path) -> None:
    corpus = read_corpus(kind, MAKERS[kind](tmp_path))
    assert corpus.unusable == ()
    for utterance, (id, audio, duration, text, speaker) in zip(
        corpus.utterances, EXPECTED[kind], strict=True
    ):
        assert utterance.id == id.format(folder=tmp_path.as_posix())
        assert (utterance.text, utterance.speaker) == (text, speaker)
        assert utterance.audio == tmp_path / audio
        codec_padding = 0.1 if audio.endswith(".mp3") else 0
        assert utterance.duration == pytest.approx(duration, abs=codec_padding + 1e-4)


@pytest.mark.parametrize("kind", READERS)
def test_wrong_source_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such corpus"):
        read_corpus(kind, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="empty") as error:
        read_corpus(kind, tmp_path / "empty")
    assert "\n" not in str(error.value)


def test_deepspeech_lists_give_the_same_as_json(tmp_path: Path) -> None:
    manifest = make_deepspeech(tmp_path)
    (tmp_path / "train.csv").write_text(
        "".join(f"{tmp_path}/wav/{name}/1.wav,{tmp_path}/{name}.txt\n" for name in "ab")
    )
    assert read_corpus("deepspeech", tmp_path / "train.csv") == read_corpus("deepspeech", manifest)


def test_missing_transcript_of_a_deepspeech_manifest_is_named(tmp_path: Path) -> None:
    manifest = make_deepspeech(tmp_path)
    (tmp_path / "b.txt").unlink()
    [line] = read_corpus("deepspeech", manifest).unusable
    assert "b/1: has no transcript" in line


@pytest.mark.parametrize("kind", ["csv", "commonvoice", "jsonl", "deepspeech"])
def test_file_of_another_kind_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"1\.wav"):
        read_corpus(kind, make_audio(tmp_path / "1.wav"))


@pytest.mark.parametrize("suffix", [".opus", ".wav", ".ogg", ".FLAC"])
def test_librispeech_under_another_suffix(suffix: str, tmp_path: Path) -> None:
    corpus = read_corpus("librispeech", make_librispeech(tmp_path, suffix))
    assert [utterance.id for utterance in corpus.utterances] == [
        id for id, *_ in EXPECTED["librispeech"]
    ]
    assert corpus.utterances[0].audio.suffix == suffix


def test_librispeech_with_two_copies_takes_the_flac(tmp_path: Path) -> None:
    make_librispeech(tmp_path, ".wav")
    corpus = read_corpus("librispeech", make_librispeech(tmp_path, ".flac"))
    assert {utterance.audio.suffix for utterance in corpus.utterances} == {".flac"}
    assert corpus.unusable == ()


def test_everything_unusable_is_named(tmp_path: Path) -> None:
    chapter = make_librispeech(tmp_path) / "19" / "198"
    with (chapter / "19-198.trans.txt").open("a") as file:
        file.write("19-198-0002 NO SOUND\n19-198-0003\n19-198-0004 BROKEN\n")
    make_audio(chapter / "19-198-0003.flac")
    (chapter / "19-198-0004.flac").write_bytes(b"no audio")
    make_audio(chapter / "19-198-0005.flac")
    corpus = read_corpus("librispeech", tmp_path)
    assert len(corpus.utterances) == 3
    no_sound, no_text, broken, unlisted = corpus.unusable
    assert no_sound == "19-198-0002: has a transcript but no recording"
    assert no_text.startswith("19-198-0003: has no transcript")
    assert broken.startswith("19-198-0004: ")
    assert str(chapter / "19-198-0004.flac") in broken
    assert unlisted.startswith("19-198-0005: has no transcript")


def test_ljspeech_names_what_is_missing(tmp_path: Path) -> None:
    make_ljspeech(tmp_path)
    make_audio(tmp_path / "wavs" / "LJ001-0009.wav")
    (tmp_path / "wavs" / "LJ001-0001.wav").unlink()
    corpus = read_corpus("ljspeech", tmp_path)
    assert [line.split(":")[0] for line in corpus.unusable] == ["LJ001-0001", "LJ001-0009"]


def test_kaldi_names_what_is_missing(tmp_path: Path) -> None:
    make_kaldi(tmp_path)
    (tmp_path / "text").write_text("ann-1 HELLO\ncat-3 NO SOUND\n")
    corpus = read_corpus("kaldi", tmp_path)
    assert [utterance.id for utterance in corpus.utterances] == ["ann-1"]
    assert [line.split(" (")[0] for line in corpus.unusable] == [
        "bob-2: has no transcript",
        "cat-3: has a transcript but no recording",
    ]


def test_csv_without_a_name_of_a_recording(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("path,text\n,hello\n")
    corpus = read_corpus("csv", table)
    assert corpus.unusable == ("line 2: has a transcript but no recording",)


def test_csv_names_missing_files(tmp_path: Path) -> None:
    table = make_csv(tmp_path)
    (tmp_path / "b" / "1.wav").unlink()
    corpus = read_corpus("csv", table)
    assert corpus.unusable[0].startswith("b/1: ")


def test_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    for kind, make in MAKERS.items():
        source = make(tmp_path / kind)
        for file in (tmp_path / kind).rglob("*"):
            if file.is_file() and file.suffix not in (".wav", ".flac", ".mp3"):
                text = file.read_text()
                file.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
        corpus = read_corpus(kind, source)
        assert [(u.id, u.text) for u in corpus.utterances] == [
            (id.format(folder=(tmp_path / kind).as_posix()), text)
            for id, _, _, text, _ in EXPECTED[kind]
        ]


def test_same_id_twice(tmp_path: Path) -> None:
    make_librispeech(tmp_path / "one")
    make_librispeech(tmp_path / "two")
    with pytest.raises(ManifestError, match="'19-198-0000' comes twice"):
        read_corpus("librispeech", tmp_path)
    make_kaldi(tmp_path / "kaldi")
    with (tmp_path / "kaldi" / "text").open("a") as file:
        file.write("ann-1 SOMETHING ELSE\n")
    with pytest.raises(ManifestError, match=r"text:3: id 'ann-1' comes twice"):
        read_corpus("kaldi", tmp_path / "kaldi")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("wav.scp", "ann-1 sph2pipe -f wav x.sph |\n", "ann-1 is a command"),
        ("segments", "a ann-1 0 1\n", "segments are not supported"),
    ],
)
def test_kaldi_refuses_what_it_cannot_do(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    make_kaldi(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ManifestError, match=message):
        read_corpus("kaldi", tmp_path)


def test_kaldi_without_speakers(tmp_path: Path) -> None:
    make_kaldi(tmp_path)
    (tmp_path / "utt2spk").unlink()
    assert {u.speaker for u in read_corpus("kaldi", tmp_path).utterances} == {""}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,words\na/1.wav,hi\n", "no column text or transcript"),
        ("sound,text\na/1.wav,hi\n", "no column audio_filepath or audio"),
        ("path,text\na/1.wav,one, two\n", r"list\.csv:2: has 3 fields"),
        ("path,text\na/1.wav\n", r"list\.csv:2: has 1 fields"),
        ('path,text\na/1.wav,"open\n', "cannot read this table"),
        ("path,text\n.,one\n", r"list\.csv:2: '\.' names no recording"),
        ("path,text,Start\na/1.wav,one,0.5\n", "column 'start', but stretches .* are not read"),
    ],
)
def test_bad_csv(tmp_path: Path, content: str, message: str) -> None:
    table = make_csv(tmp_path)
    table.write_text(content)
    with pytest.raises(ManifestError, match=message):
        read_corpus("csv", table)


@pytest.mark.parametrize("delimiter", ["\t", "|", ";", ","])
def test_csv_delimiters_and_id_column(tmp_path: Path, delimiter: str) -> None:
    make_csv(tmp_path)
    rows = [("ID", "Audio", "Transcript"), ("x", "a/1.wav", "hello"), ("y", "b/1.wav", "bye")]
    table = tmp_path / "list.txt"
    table.write_text("".join(delimiter.join(row) + "\n" for row in rows))
    utterances = read_corpus("csv", table).utterances
    assert [(u.id, u.text) for u in utterances] == [("x", "hello"), ("y", "bye")]


def test_bad_ljspeech_line(tmp_path: Path) -> None:
    make_ljspeech(tmp_path)
    (tmp_path / "metadata.csv").write_text("LJ001-0001|one|two|three\n")
    with pytest.raises(ManifestError, match=r"metadata\.csv:1: not of the form"):
        read_corpus("ljspeech", tmp_path)


# --- asr prepare ---


def run(*arguments: object):
    app = typer.Typer()
    app.command()(command.prepare)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_command_knows_every_reader() -> None:
    assert get_args(command.Kind) == tuple(READERS)
    help = run("--help").output
    for kind in READERS:
        assert f"{kind}:" in help


@pytest.mark.parametrize("kind", READERS)
def test_command_writes_the_manifest(kind: str, tmp_path: Path) -> None:
    source = MAKERS[kind](tmp_path)
    result = run(kind, source, "-o", tmp_path / "new" / "out.jsonl")
    assert result.exit_code == 0, result.output
    utterances = read_manifest(tmp_path / "new" / "out.jsonl")
    assert [u.text for u in utterances] == [text for _, _, _, text, _ in EXPECTED[kind]]
    assert all(u.audio.exists() for u in utterances)
    assert f"{len(utterances)} utterances" in result.stdout


def test_a_chapter_whose_transcript_is_lost_is_named(tmp_path: Path) -> None:
    make_librispeech(tmp_path)
    (tmp_path / "26" / "495" / "26-495.trans.txt").unlink()
    corpus = read_corpus("librispeech", tmp_path)
    assert [utterance.id for utterance in corpus.utterances] == ["19-198-0000", "19-198-0001"]
    [line] = corpus.unusable
    assert line.startswith("26-495-0000: has no transcript")


def test_chapters_of_one_folder_are_told_apart(tmp_path: Path) -> None:
    make_librispeech(tmp_path / "tree")
    for path in (tmp_path / "tree").rglob("*-*"):
        path.rename(tmp_path / path.name)
    corpus = read_corpus("librispeech", tmp_path)
    assert not corpus.unusable
    assert {u.id: u.speaker for u in corpus.utterances} == {
        "19-198-0000": "19",
        "19-198-0001": "19",
        "26-495-0000": "26",
    }


def test_command_refuses_unusable_recordings_unless_told(tmp_path: Path) -> None:
    make_librispeech(tmp_path)
    (tmp_path / "19" / "198" / "19-198-0001.flac").unlink()
    output = tmp_path / "out.jsonl"
    refused = run("librispeech", tmp_path, "-o", output)
    assert isinstance(refused.exception, ManifestError)
    assert "--skip-unusable" in str(refused.exception)
    assert "1 of 3 recordings are unusable" in refused.stderr
    assert not output.exists()
    skipped = run("librispeech", tmp_path, "-o", output, "--skip-unusable")
    assert skipped.exit_code == 0
    assert "19-198-0001: has a transcript but no recording" in skipped.stderr
    assert len(read_manifest(output)) == 2


def test_command_with_nothing_usable(tmp_path: Path) -> None:
    make_librispeech(tmp_path)
    for file in tmp_path.rglob("*.flac"):
        file.unlink()
    result = run("librispeech", tmp_path, "-o", tmp_path / "out.jsonl", "--skip-unusable")
    assert isinstance(result.exception, ManifestError)
    assert "--skip-unusable" not in str(result.exception)
    assert not (tmp_path / "out.jsonl").exists()


def test_command_with_unknown_kind(tmp_path: Path) -> None:
    assert run("timit", tmp_path, "-o", tmp_path / "out.jsonl").exit_code == 2
