"""The recordings that a command line names, and the files that their transcripts go to."""

import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.cli.messages import print_error
from asr.errors import AudioError, ConfigError
from asr.formats.registry import Format, suffix
from asr.formats.tables import ctm_name


@dataclass(frozen=True)
class Recording:
    """A recording to transcribe.

    Attributes:
        path: where it is; ``-`` for standard input.
        name: of its output file, relative to the output folder and without the suffix.
    """

    path: str
    name: Path

    def output_paths(self, output_dir: Path, formats: Iterable[Format]) -> dict[Format, Path]:
        """Return the file of each format."""
        return {format: output_dir / f"{self.name}{suffix(format)}" for format in formats}


def find_recordings(inputs: Iterable[str]) -> tuple[list[Recording], int]:
    """Return the recordings in folders and those named, each once; how many folders had none.

    Raises:
        ConfigError: a name is empty.
    """
    recordings, failures = [], 0
    for name in inputs:
        folder = Path(name)
        if not name:  # which Path takes for the current folder
            raise ConfigError("an empty name is no recording; name a file or folder")
        if name == "-":
            recordings.append(Recording(name, Path("stdin")))
        elif found_to_be(Path.is_dir, folder):
            errors: list[OSError] = []
            found = list(_walk(folder, errors))
            recordings += found
            failures += len(errors)
            for error in errors:
                reason = f"cannot be looked into ({error.strerror}); check its permissions"
                print_error(AudioError(f"{error.filename}: {reason}"))
            if not found and not errors:
                failures += 1
                print_error(AudioError(f"{name}: no recordings in this folder; name another"))
        else:
            recordings.append(Recording(name, Path(folder.stem)))
    once: dict[str, Recording] = {}
    for recording in recordings:
        once.setdefault(recording.path, recording)
    return list(once.values()), failures


def check_names(
    recordings: Iterable[Recording], output_dir: Path, formats: Iterable[Format]
) -> None:
    """Refuse recordings whose transcripts would go to the same file.

    Raises:
        ConfigError: there are such.
    """
    taken: dict[str, str] = {}
    for recording in recordings:
        for path in recording.output_paths(output_dir, formats).values():
            key = _key(path)
            if key in taken:
                raise ConfigError(
                    f"{path}: would hold both {taken[key]} and {recording.path}; "
                    "transcribe them into different folders"
                )
            taken[key] = recording.path


def check_ctm_names(recordings: Iterable[Recording]) -> None:
    """Refuse recordings that one CTM file would give the same name.

    Raises:
        ConfigError: there are such.
    """
    taken: dict[str, str] = {}
    for recording in recordings:
        other = taken.setdefault(ctm_name(recording.path), recording.path)
        if other != recording.path:
            raise ConfigError(
                f"{recording.path}: has the name of {other} in CTM; give an --output-dir"
            )


def _key(path: Path) -> str:
    """Return what is the same for two names of one file on this system's usual disks."""
    if sys.platform in ("darwin", "win32"):
        return unicodedata.normalize("NFC", str(path)).casefold()
    return str(path)


def _walk(folder: Path, errors: list[OSError]) -> Iterator[Recording]:
    from asr.audio import AUDIO_SUFFIXES

    for path in sorted(_files(folder, errors)):
        # "._name.wav" is what macOS leaves beside a file on foreign disks.
        hidden = path.name.startswith(".")
        if (
            path.suffix.lower() in AUDIO_SUFFIXES
            and not hidden
            and (found_to_be(Path.is_file, path) or _is_dead_link(path))
        ):
            yield Recording(str(path), path.relative_to(folder).with_suffix(""))


def _files(folder: Path, errors: list[OSError]) -> Iterator[Path]:
    """Yield what is in a folder and those below it, each once; links to folders come last."""
    seen: set[str] = set()
    starts = [str(folder)]
    for start in starts:
        for root, folders, names in os.walk(start, onerror=errors.append):
            place = os.path.realpath(root)
            if place in seen:
                folders.clear()
                continue
            seen.add(place)
            starts += [str(path) for name in folders if (path := Path(root, name)).is_symlink()]
            yield from (Path(root, name) for name in names)


def _is_dead_link(path: Path) -> bool:
    return path.is_symlink() and not found_to_be(Path.exists, path)


def found_to_be(kind: Callable[[Path], bool], path: Path) -> bool:
    """Return what ``Path.exists``, ``is_dir`` … say of a path; ``False`` where they fail."""
    try:
        return kind(path)
    except OSError:  # a name too long, or below a locked folder: reading or writing it will tell
        return False
