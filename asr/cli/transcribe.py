"""``asr transcribe``: recordings to text."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from asr.cli.messages import audio_progress, print_error
from asr.cli.options import (
    BATCH_SECONDS,
    BatchSeconds,
    BeamWidth,
    Device,
    Hotwords,
    HotwordScore,
    LanguageModel,
    Lexicon,
    LmWeight,
    Method,
    Model,
    WordScore,
    load_transcriber,
)
from asr.errors import AsrError, AudioError, ConfigError
from asr.formats.registry import FORMATS, JOINABLE, Format, renderers, suffix

if TYPE_CHECKING:
    from asr.transcriber import Transcript

Render = Callable[["Transcript"], str]


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
        Literal[Format, "all"],
        typer.Option(help="Text, data, subtitles or annotation; all of them into --output-dir."),
    ] = "txt",
    words_per_line: Annotated[
        int | None,
        typer.Option(min=1, help="Subtitles of one line at a time and so many words at most."),
    ] = None,
    color: Annotated[
        bool, typer.Option("--color", help="On a terminal, colour words of low confidence.")
    ] = False,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Write one file per recording here instead of printing."),
    ] = None,
    device: Device = None,
    batch_seconds: BatchSeconds = BATCH_SECONDS,
    decoder: Method = None,
    lm: LanguageModel = None,
    lexicon: Lexicon = None,
    lm_weight: LmWeight = None,
    word_score: WordScore = None,
    beam_width: BeamWidth = None,
    hotwords: Hotwords = None,
    hotword_score: HotwordScore = None,
) -> None:
    """Transcribe recordings.

    Prints one line of text per recording, after its path and a tab if there are several.
    Exit code 1 if a recording failed; the others are still done.
    """
    if format == "all" and not output_dir:
        raise typer.BadParameter("--format all needs an --output-dir")
    recordings, failures = _find(inputs)
    if len(recordings) > 1 and not output_dir and format not in (*JOINABLE, "json"):
        raise typer.BadParameter(f"--format {format} of several recordings needs an --output-dir")
    formats: tuple[Format, ...] = FORMATS if format == "all" else (format,)
    if output_dir:
        _check_names(recordings, output_dir, formats)
    from asr.formats.cues import CueRules

    render = renderers(CueRules(words_per_line=words_per_line))
    transcriber = load_transcriber(
        model,
        device,
        language_model=lm,
        lexicon=lexicon,
        hotwords=hotwords,
        method=decoder,
        lm_weight=lm_weight,
        word_score=word_score,
        beam_width=beam_width,
        hotword_score=hotword_score,
    )
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
                _write(result, _output_paths(recording, output_dir, formats), render)
            elif streams:
                _print(result, formats[0], render, color, named=True)
            else:
                finished.append(result)
    if format == "json" and not output_dir:
        from asr.formats.plain import to_dict

        print(json.dumps([to_dict(result) for result in finished], ensure_ascii=False, indent=2))
    else:
        for result in finished:
            _print(result, formats[0], render, color, named=False)
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


def _output_paths(
    recording: _Recording, output_dir: Path, formats: Iterable[Format]
) -> dict[Format, Path]:
    return {format: output_dir / f"{recording.name}{suffix(format)}" for format in formats}


def _check_names(
    recordings: Iterable[_Recording], output_dir: Path, formats: Iterable[Format]
) -> None:
    taken: dict[Path, str] = {}
    for recording in recordings:
        for path in _output_paths(recording, output_dir, formats).values():
            if path in taken:
                raise ConfigError(
                    f"{path}: would hold both {taken[path]} and {recording.path}; "
                    "transcribe them into different folders"
                )
            taken[path] = recording.path


def _write(
    transcript: "Transcript", paths: dict[Format, Path], render: dict[Format, Render]
) -> None:
    from asr.atomic import whole_file

    for format, path in paths.items():
        content = render[format](transcript)
        with whole_file(path) as partial:
            partial.write_bytes(content.encode("utf-8", errors="backslashreplace"))


def _print(
    transcript: "Transcript",
    format: Format,
    render: dict[Format, Render],
    color: bool,
    *,
    named: bool,
) -> None:
    """Print a transcript; a text after its path and a tab if ``named``."""
    prefix = f"{transcript.path}\t" if named and format == "txt" else ""
    if color and format == "txt":
        from rich.console import Console

        from asr.formats.terminal import coloured

        print(prefix, end="")
        Console().print(coloured(transcript), soft_wrap=True)
    else:
        print(prefix + render[format](transcript), end="", flush=True)
