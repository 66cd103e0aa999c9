"""Manifests: one JSON object a line, with the keys NeMo and others use.

``{"id": …, "audio_filepath": …, "duration": …, "text": …, "speaker": …}``

Audio paths that are not absolute count from the manifest's own folder, so that a corpus can
be moved together with its manifests.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.atomic import whole_file
from asr.errors import ManifestError, reason_of


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording with its transcript.

    Attributes:
        id: unique name within the corpus.
        audio: path of the recording.
        duration: length in seconds.
        text: transcript as the corpus has it, not normalised.
        speaker: name of the speaker, empty if unknown.
    """

    id: str
    audio: Path
    duration: float
    text: str
    speaker: str = ""


def read_manifest(path: str | Path) -> list[Utterance]:
    """Return the utterances of a JSONL manifest, blank lines skipped.

    ``id`` defaults to the audio file's stem and ``speaker`` to an empty string. A byte-order
    mark and CRLF line ends are accepted.

    Raises:
        ManifestError: the file is missing or empty, a line is not a JSON object, lacks a key or
            has one of the wrong type, or an id comes twice; the message names the line.
    """
    return list(iter_manifest(path))


def iter_manifest(path: str | Path) -> Iterator[Utterance]:
    """Yield the utterances of a manifest one by one; see :func:`read_manifest`."""
    path = Path(path)
    seen: set[str] = set()
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    utterance = _parse(line, f"{path}:{number}", path.parent)
                    if utterance.id in seen:
                        raise ManifestError(
                            f"{path}:{number}: id {utterance.id!r} comes twice; give each an id"
                        )
                    seen.add(utterance.id)
                    yield utterance
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: no such manifest; prepare the corpus first") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot read this manifest: {reason_of(error)}") from error
    if not seen:
        raise ManifestError(f"{path}: the manifest is empty; prepare the corpus again")


def _parse(line: str, where: str, folder: Path) -> Utterance:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise ManifestError(f"{where}: not a JSON object: {error.msg}") from error
    except ValueError as error:
        raise ManifestError(f"{where}: not a JSON object: a number has too many digits") from error
    except RecursionError as error:
        raise ManifestError(f"{where}: not a JSON object: nested too deeply") from error
    if not isinstance(entry, dict):
        raise ManifestError(f"{where}: not a JSON object")
    missing = [key for key in ("audio_filepath", "duration", "text") if key not in entry]
    if missing:
        raise ManifestError(f"{where}: lacks the key {missing[0]!r}")
    audio, duration, text = entry["audio_filepath"], entry["duration"], entry["text"]
    if not isinstance(audio, str) or not isinstance(text, str):
        raise ManifestError(f"{where}: audio_filepath and text must be strings")
    if isinstance(duration, bool) or not isinstance(duration, int | float):
        raise ManifestError(f"{where}: duration must be a number of seconds")
    if not 0 < duration <= sys.float_info.max:
        raise ManifestError(f"{where}: duration must be a finite number of seconds above 0")
    if entry.get("offset"):
        raise ManifestError(f"{where}: offset is not supported; cut the recording into utterances")
    return Utterance(
        id=as_name(entry.get("id")) or Path(audio).stem,
        audio=folder / audio,
        duration=float(duration),
        text=text,
        speaker=as_name(entry.get("speaker")),
    )


def as_name(value: object) -> str:
    """Return a name of a JSON object as text, numbers as they are; empty where there is none."""
    return "" if value is None else str(value)


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> int:
    """Write a manifest whole or not at all; return the number of lines.

    Audio inside the manifest's folder is written relative to it, other audio as an absolute path.
    Symbolic links are kept as they are.

    Raises:
        ManifestError: the manifest cannot be written.
    """
    path = Path(path)
    folder = _absolute(path.parent)
    count = 0
    try:
        with (
            whole_file(path) as partial,
            partial.open("w", encoding="utf-8", newline="\n") as file,
        ):
            for utterance in utterances:
                file.write(json.dumps(_entry(utterance, folder), ensure_ascii=False) + "\n")
                count += 1
    except (OSError, UnicodeEncodeError) as error:
        raise ManifestError(f"{path}: cannot write this manifest: {error}") from error
    return count


def _entry(utterance: Utterance, folder: Path) -> dict[str, str | float]:
    audio = _absolute(utterance.audio)
    if audio.is_relative_to(folder):
        audio = audio.relative_to(folder)
    return {
        "id": utterance.id,
        "audio_filepath": audio.as_posix(),
        "duration": round(utterance.duration, 6),
        "text": utterance.text,
        "speaker": utterance.speaker,
    }


def _absolute(path: Path) -> Path:
    """Return an absolute path without ``..``; unlike ``Path.resolve`` it follows no link."""
    return Path(os.path.abspath(path))  # noqa: PTH100
