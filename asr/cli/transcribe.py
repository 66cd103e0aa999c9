"""``asr transcribe``: recordings to text."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from asr.cli.messages import audio_progress, print_error
from asr.cli.options import BATCH_SECONDS, BatchSeconds, Device, Model
from asr.errors import AsrError, AudioError, ConfigError

if TYPE_CHECKING:
    from asr.transcriber import Transcript

Format = Literal["txt", "json", "jsonl"]


@dataclass(frozen=True)
class _Recording:
    path: str
    name: Path  # of its output file, relative to the output folder and without the suffix


def transcribe(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|DIR|-...",
            help="Recordings, folders of recordings, or - for standard input.",
            show_default=False,
        ),
    ],
    model: Model = None,
    format: Annotated[
        Format,
        typer.Option(help="Text; a JSON array; or one JSON object a line, as each is ready."),
    ] = "txt",
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Write one file per recording here instead of printing."),
    ] = None,
    device: Device = None,
    batch_seconds: BatchSeconds = BATCH_SECONDS,
) -> None:
    """Transcribe recordings.

    Prints one line of text per recording, after its path and a tab if there are several.
    Exit code 1 if a recording failed; the others are still done.
    """
    recordings, failures = _find(inputs)
    if output_dir:
        _check_names(recordings, output_dir, format)
    from asr.transcriber import Transcriber

    transcriber = Transcriber.load(model, device)
    paths = [recording.path for recording in recordings]
    streams = len(recordings) > 1 and not output_dir and format != "json"
    finished: list[Transcript] = []
    with audio_progress(paths, beside_output=streams) as on_progress:
        results = transcriber.transcribe_many(paths, batch_seconds, on_progress)
        for recording, result in zip(recordings, results, strict=True):
            if isinstance(result, AsrError):
                failures += 1
                print_error(result)
            elif output_dir:
                _write(result, format, _output_path(recording, output_dir, format))
            elif streams:
                prefix = f"{result.path}\t" if format == "txt" else ""
                print(prefix + _render(result, format), flush=True)
            else:
                finished.append(result)
    if format == "json" and not output_dir:
        print(json.dumps([_to_json(result) for result in finished], ensure_ascii=False, indent=2))
    else:
        for result in finished:
            print(_render(result, format))
    if failures:
        raise typer.Exit(1)


def _find(inputs: Iterable[str]) -> tuple[list[_Recording], int]:
    """Return the recordings in folders and those named, and how many folders had none."""
    recordings, failures = [], 0
    for name in inputs:
        folder = Path(name)
        if name == "-":
            recordings.append(_Recording(name, Path("stdin")))
        elif folder.is_dir():
            found = list(_walk(folder))
            recordings += found
            if not found:
                failures += 1
                print_error(AudioError(f"{name}: no recordings in this folder; name another"))
        else:
            recordings.append(_Recording(name, Path(folder.stem)))
    return recordings, failures


def _walk(folder: Path) -> Iterator[_Recording]:
    from asr.audio import AUDIO_SUFFIXES

    for path in sorted(folder.rglob("*")):
        # "._name.wav" is what macOS leaves beside a file on foreign disks.
        hidden = path.name.startswith(".")
        if path.suffix.lower() in AUDIO_SUFFIXES and not hidden and path.is_file():
            yield _Recording(str(path), path.relative_to(folder).with_suffix(""))


def _output_path(recording: _Recording, output_dir: Path, format: Format) -> Path:
    return output_dir / f"{recording.name}.{format}"


def _check_names(recordings: Iterable[_Recording], output_dir: Path, format: Format) -> None:
    taken: dict[Path, str] = {}
    for recording in recordings:
        path = _output_path(recording, output_dir, format)
        if path in taken:
            raise ConfigError(
                f"{path}: would hold both {taken[path]} and {recording.path}; "
                "transcribe them into different folders"
            )
        taken[path] = recording.path


def _write(transcript: "Transcript", format: Format, path: Path) -> None:
    from asr.atomic import whole_file

    with whole_file(path) as partial:
        content = _render(transcript, format) + "\n"
        partial.write_bytes(content.encode("utf-8", errors="backslashreplace"))


def _render(transcript: "Transcript", format: Format) -> str:
    if format == "txt":
        return transcript.text
    indent = 2 if format == "json" else None
    return json.dumps(_to_json(transcript), ensure_ascii=False, indent=indent)


def _to_json(transcript: "Transcript") -> dict[str, Any]:
    return {
        "path": transcript.path,
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
        "words": [
            {
                name: round(value, 3) if isinstance(value, float) else value
                for name, value in asdict(word).items()
            }
            for word in transcript.words
        ],
    }
