"""Readers for the layouts in which speech corpora come.

A reader lists recordings and their texts; :func:`read_corpus` then measures every recording, so
that all layouts pass the same checks. Nothing is dropped silently: a recording without a text, a
text without a recording and a recording that cannot be read are named in ``Corpus.unusable``.
"""

import csv
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import track

from asr.audio import AUDIO_SUFFIXES, audio_duration
from asr.data.manifest import Utterance, read_manifest
from asr.errors import AudioError, ManifestError

AUDIO_COLUMNS = ("audio_filepath", "audio", "path", "file", "filename", "wav_filename")
TEXT_COLUMNS = ("text", "transcript", "transcription", "sentence")
SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id")
STRETCH_COLUMNS = ("start", "end", "start_time", "end_time", "offset")


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording as a corpus lists it, not yet looked at.

    Attributes:
        id: unique name within the corpus.
        audio: path of the recording, ``None`` if the corpus has only a text.
        text: transcript, empty if the corpus has only a recording.
        speaker: name of the speaker, empty if unknown.
    """

    id: str
    audio: Path | None
    text: str
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Corpus:
    """What a corpus holds.

    Attributes:
        utterances: recordings with a text and a known duration.
        unusable: one line on each of the other recordings, starting with its id.
    """

    utterances: tuple[Utterance, ...]
    unusable: tuple[str, ...]


def read_corpus(kind: str, source: Path, *, progress: bool = False) -> Corpus:
    """Read a corpus and measure its recordings.

    Args:
        kind: a key of ``READERS``.
        source: folder or table of the corpus; see the reader.
        progress: show a progress bar on stderr.

    Raises:
        ManifestError: the source is missing or of another layout, it holds no recording, or an id
            comes twice.
    """
    if not source.exists():
        raise ManifestError(f"{source}: no such corpus; give the folder or table to read")
    recordings = list(READERS[kind](source))
    if not recordings:
        raise ManifestError(f"{source}: holds no recordings; is it of the kind {kind}?")
    seen: set[str] = set()
    for recording in recordings:
        if recording.id in seen:
            raise ManifestError(f"{source}: id {recording.id!r} comes twice; ids must be unique")
        seen.add(recording.id)
    with ThreadPoolExecutor() as pool:  # opening files is mostly waiting for the disk
        results = track(
            pool.map(_measure, recordings),
            description="measuring",
            total=len(recordings),
            console=Console(stderr=True),
            disable=not progress,
        )
        measured = list(results)
    return Corpus(
        utterances=tuple(item for item in measured if isinstance(item, Utterance)),
        unusable=tuple(item for item in measured if isinstance(item, str)),
    )


def _measure(recording: Recording) -> Utterance | str:
    """Return the utterance, or a line that says why there is none."""
    if recording.audio is None:
        return f"{recording.id}: has a transcript but no recording"
    if not recording.text.strip():
        return f"{recording.id}: has no transcript ({recording.audio})"
    try:
        duration = audio_duration(recording.audio)
    except AudioError as error:
        return f"{recording.id}: {error}"
    if not duration > 0:
        return f"{recording.id}: holds no sound ({recording.audio})"
    return Utterance(recording.id, recording.audio, duration, recording.text, recording.speaker)


def read_librispeech(folder: Path) -> Iterator[Recording]:
    """Yield the recordings below a LibriSpeech folder: a split, a speaker or a chapter.

    Each chapter has a ``SPEAKER-CHAPTER.trans.txt`` with lines ``ID TEXT`` beside ``ID.flac``;
    any other audio suffix does as well.
    """
    transcripts: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.name.endswith(".trans.txt"):
            transcripts.setdefault(path.parent, []).append(path)
        elif path.suffix.lower() in AUDIO_SUFFIXES:
            transcripts.setdefault(path.parent, [])  # perhaps its transcript is lost
    for chapter, files in transcripts.items():
        audio = _audio_by_stem(chapter)
        for file in files:
            for id, text in _read_pairs(file).items():
                yield Recording(id, audio.pop(id, None), text, speaker=id.split("-")[0])
        for id, path in audio.items():
            yield Recording(id, path, text="")


def read_ljspeech(folder: Path) -> Iterator[Recording]:
    """Yield the recordings of an LJSpeech folder: ``metadata.csv`` and ``wavs/``.

    Lines are ``id|text`` or ``id|text|text with numbers spelled out``; the last text is taken.
    """
    table = folder / "metadata.csv"
    audio = _audio_by_stem(folder / "wavs")
    for number, line in _lines(table):
        id, *texts = line.split("|")
        if not 1 <= len(texts) <= 2:
            raise ManifestError(f"{table}:{number}: not of the form id|text or id|text|text")
        yield Recording(id, audio.pop(id, None), texts[-1] or texts[0])
    for id, path in audio.items():
        yield Recording(id, path, text="")


def read_csv(table: Path) -> Iterator[Recording]:
    """Yield the recordings of a table whose first line names its columns.

    The delimiter is the first of tab, ``|``, ``;`` and ``,`` that this line holds. One of
    ``AUDIO_COLUMNS`` (relative paths count from the table) and one of ``TEXT_COLUMNS`` are needed;
    one of ``SPEAKER_COLUMNS`` and ``id``, else the path without suffix, are taken if there.
    """
    return _read_table(table, table.parent, csv.QUOTE_MINIMAL)


def read_commonvoice(table: Path) -> Iterator[Recording]:
    """Yield the recordings of a Common Voice list such as ``train.tsv`` with ``clips/`` beside."""
    return _read_table(table, table.parent / "clips", csv.QUOTE_NONE)


def read_kaldi(folder: Path) -> Iterator[Recording]:
    """Yield the recordings of a Kaldi data directory: ``wav.scp``, ``text``, ``utt2spk``.

    Relative audio paths count from the working directory, as in Kaldi. ``segments`` and pipes in
    ``wav.scp`` are refused.
    """
    if (folder / "segments").exists():
        raise ManifestError(
            f"{folder}: segments are not supported; cut the recordings into utterances first"
        )
    speakers = _read_pairs(folder / "utt2spk") if (folder / "utt2spk").exists() else {}
    texts = _read_pairs(folder / "text")
    for id, audio in _read_pairs(folder / "wav.scp").items():
        if audio.endswith("|"):
            raise ManifestError(
                f"{folder / 'wav.scp'}: {id} is a command; write its output to a file first"
            )
        yield Recording(id, Path(audio), texts.pop(id, ""), speakers.get(id, ""))
    for id, text in texts.items():
        yield Recording(id, None, text)


def read_jsonl(manifest: Path) -> Iterator[Recording]:
    """Yield the recordings of a manifest with NeMo's keys; see :mod:`asr.data.manifest`."""
    for utterance in read_manifest(manifest):
        yield Recording(utterance.id, utterance.audio, utterance.text, utterance.speaker)


def read_deepspeech(manifest: Path) -> Iterator[Recording]:
    """Yield the recordings of a deepspeech.pytorch manifest: a recording and a text file each.

    JSON with ``root_path`` and ``samples``, or lines ``WAV,TXT``; relative paths count from the
    working directory, as there.
    """
    for audio, transcript in _deepspeech_pairs(manifest):
        try:
            text = transcript.read_text("utf-8-sig").strip()
        except FileNotFoundError:
            text = ""  # of which the recording is unusable
        except (OSError, UnicodeDecodeError) as error:
            raise ManifestError(f"{transcript}: cannot read this transcript: {error}") from error
        yield Recording(audio.with_suffix("").as_posix(), audio, text)


def _deepspeech_pairs(manifest: Path) -> Iterator[tuple[Path, Path]]:
    if manifest.suffix.lower() != ".json":
        for number, line in _lines(manifest):
            audio, comma, text = line.partition(",")
            if not audio or not comma or "," in text:
                raise ManifestError(f"{manifest}:{number}: not of the form WAV,TXT")
            if not Path(audio).name:
                raise ManifestError(f"{manifest}:{number}: {audio!r} names no recording")
            yield Path(audio), Path(text)
        return
    try:
        content = json.loads(manifest.read_text("utf-8-sig"))
        root = Path(content["root_path"])
        for sample in content["samples"]:
            yield root / sample["wav_path"], root / sample["transcript_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(
            f"{manifest}: not a manifest of deepspeech.pytorch, which has root_path and samples: "
            f"{error!r}"
        ) from error


READERS: dict[str, Callable[[Path], Iterator[Recording]]] = {
    "librispeech": read_librispeech,
    "ljspeech": read_ljspeech,
    "csv": read_csv,
    "commonvoice": read_commonvoice,
    "kaldi": read_kaldi,
    "jsonl": read_jsonl,
    "deepspeech": read_deepspeech,
}


def _audio_by_stem(folder: Path) -> dict[str, Path]:
    """Return the audio files of a folder; of equal stems the suffix that sorts first counts."""
    try:
        files = sorted(folder.iterdir(), reverse=True)
    except OSError as error:
        raise ManifestError(f"{folder}: cannot list this folder: {error.strerror}") from error
    audio = {file.stem: file for file in files if file.suffix.lower() in AUDIO_SUFFIXES}
    return dict(sorted(audio.items()))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line numbers and lines, blank ones skipped."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot read this list: {error}") from error


def _read_pairs(path: Path) -> dict[str, str]:
    """Return a list of lines ``KEY VALUE``; the value may be empty."""
    pairs: dict[str, str] = {}
    for number, line in _lines(path):
        key, *value = line.split(maxsplit=1)
        if key in pairs:
            raise ManifestError(f"{path}:{number}: id {key!r} comes twice; ids must be unique")
        pairs[key] = value[0] if value else ""
    return pairs


def _read_table(table: Path, folder: Path, quoting: Literal[0, 3]) -> Iterator[Recording]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            delimiter = next((d for d in "\t|;," if d in header), ",")
            names = next(csv.reader([header], delimiter=delimiter, quoting=quoting), [])
            columns = [name.strip().lower() for name in names]
            if stretch := next((name for name in columns if name in STRETCH_COLUMNS), None):
                raise ManifestError(
                    f"{table}: has a column {stretch!r}, but stretches of recordings are not read; "
                    "cut the recordings into utterances first"
                )
            audio = _column(table, columns, AUDIO_COLUMNS)
            text = _column(table, columns, TEXT_COLUMNS)
            speaker = next((name for name in SPEAKER_COLUMNS if name in columns), None)
            rows = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
            for row in filter(None, rows):
                if len(row) != len(columns):
                    raise ManifestError(
                        f"{table}:{rows.line_num + 1}: has {len(row)} fields where the first line "
                        f"has {len(columns)}; quote fields that hold the delimiter {delimiter!r}"
                    )
                fields = dict(zip(columns, row, strict=True))
                file_name = fields[audio].strip()
                if file_name and not Path(file_name).name:
                    raise ManifestError(
                        f"{table}:{rows.line_num + 1}: {file_name!r} names no recording"
                    )
                stem = Path(file_name).with_suffix("").as_posix() if file_name else ""
                yield Recording(
                    id=fields.get("id") or stem or f"line {rows.line_num + 1}",
                    audio=folder / file_name if file_name else None,
                    text=fields[text],
                    speaker=fields[speaker] if speaker else "",
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{table}: cannot read this table: {error}") from error


def _column(table: Path, columns: list[str], names: tuple[str, ...]) -> str:
    for name in names:
        if name in columns:
            return name
    raise ManifestError(f"{table}: the first line names no column {' or '.join(names)}")
