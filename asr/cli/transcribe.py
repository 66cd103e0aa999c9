"""``asr transcribe``: recordings to text."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from asr.cli.messages import audio_progress, print_note
from asr.cli.options import (
    BATCH_SECONDS,
    BatchSeconds,
    BeamWidth,
    CharLm,
    CharLmWeight,
    CharScore,
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
from asr.cli.outputs import Output, check_output_dir
from asr.cli.recordings import (
    Recording,
    check_ctm_names,
    check_names,
    find_recordings,
    found_to_be,
)
from asr.errors import AsrError
from asr.formats.registry import FORMATS, JOINABLE, Format, renderers

if TYPE_CHECKING:
    from asr.transcriber import OnProgress, OnSegment, Transcriber, Transcript


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
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip recordings whose files are in --output-dir.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes, each with a copy of the model.")] = 1,
    device: Device = None,
    batch_seconds: BatchSeconds = BATCH_SECONDS,
    decoder: Method = None,
    lm: LanguageModel = None,
    lexicon: Lexicon = None,
    lm_weight: LmWeight = None,
    word_score: WordScore = None,
    char_lm: CharLm = None,
    char_lm_weight: CharLmWeight = None,
    char_score: CharScore = None,
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
    if resume and not output_dir:
        raise typer.BadParameter("--resume needs the --output-dir of the run to go on with")
    if jobs > 1 and "-" in inputs:
        raise typer.BadParameter("--jobs cannot share out standard input")
    if words_per_line and format not in ("srt", "vtt", "all"):
        raise typer.BadParameter("--words-per-line is for --format srt and vtt")
    if color and (output_dir or format != "txt"):
        raise typer.BadParameter("--color is for text on a terminal")
    recordings, failures = find_recordings(inputs)
    if len(recordings) > 1 and not output_dir and format not in (*JOINABLE, "json"):
        raise typer.BadParameter(f"--format {format} of several recordings needs an --output-dir")
    if format == "ctm" and not output_dir:
        check_ctm_names(recordings)
    formats: tuple[Format, ...] = FORMATS if format == "all" else (format,)
    if output_dir:
        check_names(recordings, output_dir, formats)
        check_output_dir(output_dir)
        if resume:
            recordings = _missing(recordings, output_dir, formats)
    from asr.formats.cues import CueRules

    render = renderers(CueRules(words_per_line=words_per_line))
    output = Output(recordings, formats, render, output_dir, color=color)
    load = partial(
        load_transcriber,
        model,
        device,
        language_model=lm,
        character_model=char_lm,
        lexicon=lexicon,
        hotwords=hotwords,
        method=decoder,
        lm_weight=lm_weight,
        word_score=word_score,
        char_lm_weight=char_lm_weight,
        char_score=char_score,
        beam_width=beam_width,
        hotword_score=hotword_score,
    )
    paths = [recording.path for recording in recordings]
    try:
        with audio_progress(paths, beside_output=output.streams) as on_progress:
            for number, result in _transcribe(
                load, paths, jobs, batch_seconds, on_progress, output.add_segment
            ):
                output.add(number, result)
    except KeyboardInterrupt:
        print_note(output.interrupt())
        raise typer.Exit(130) from None
    except AsrError:
        if output.keeps_results:
            print_note(output.interrupt())
        raise
    output.finish()
    if failures or output.failures:
        raise typer.Exit(1)


def _missing(
    recordings: list[Recording], output_dir: Path, formats: tuple[Format, ...]
) -> list[Recording]:
    """Return the recordings that lack a file, and say how many do not."""
    missing = [
        recording
        for recording in recordings
        if not all(
            found_to_be(Path.exists, path)
            for path in recording.output_paths(output_dir, formats).values()
        )
    ]
    print_note(f"{len(recordings) - len(missing)} of {len(recordings)} recordings were done before")
    return missing


def _transcribe(
    load: "Callable[[], Transcriber]",
    paths: list[str],
    jobs: int,
    batch_seconds: float,
    on_progress: "OnProgress | None",
    on_segment: "OnSegment",
) -> "Iterator[tuple[int, Transcript | AsrError]]":
    """Yield the place and transcript of each recording, as they are ready."""
    jobs = min(jobs, len(paths))
    if jobs > 1:
        from asr.workers import transcribe_in_processes

        yield from transcribe_in_processes(
            load, paths, jobs, batch_seconds, on_progress, on_segment
        )
    elif paths:
        yield from enumerate(load().transcribe_many(paths, batch_seconds, on_progress, on_segment))
