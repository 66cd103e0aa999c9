"""The recordings that a command line names, and the files that their transcripts go to."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.cli.messages import print_error
from asr.errors import AudioError, ConfigError
from asr.formats.registry import Format, suffix


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
    """Return the recordings in folders and those named, and how many folders had none."""
    recordings, failures = [], 0
    for name in inputs:
        folder = Path(name)
        if name == "-":
            recordings.append(Recording(name, Path("stdin")))
        elif _is(Path.is_dir, folder):
            found = list(_walk(folder))
            recordings += found
            if not found:
                failures += 1
                print_error(AudioError(f"{name}: no recordings in this folder; name another"))
        else:
            recordings.append(Recording(name, Path(folder.stem)))
    return recordings, failures


def check_names(
    recordings: Iterable[Recording], output_dir: Path, formats: Iterable[Format]
) -> None:
    """Refuse recordings whose transcripts would go to the same file.

    Raises:
        ConfigError: there are such.
    """
    taken: dict[Path, str] = {}
    for recording in recordings:
        for path in recording.output_paths(output_dir, formats).values():
            if path in taken:
                raise ConfigError(
                    f"{path}: would hold both {taken[path]} and {recording.path}; "
                    "transcribe them into different folders"
                )
            taken[path] = recording.path


def _walk(folder: Path) -> Iterator[Recording]:
    from asr.audio import AUDIO_SUFFIXES

    for path in sorted(folder.rglob("*")):
        # "._name.wav" is what macOS leaves beside a file on foreign disks.
        hidden = path.name.startswith(".")
        if path.suffix.lower() in AUDIO_SUFFIXES and not hidden and _is(Path.is_file, path):
            yield Recording(str(path), path.relative_to(folder).with_suffix(""))


def _is(kind: Callable[[Path], bool], path: Path) -> bool:
    try:
        return kind(path)
    except OSError:  # of a name too long, or below a locked folder: reading it will tell
        return False
