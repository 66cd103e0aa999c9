"""``asr inspect``: one picture of how a recording becomes words."""

import math
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.messages import print_note
from asr.cli.options import Model

DEFAULT_SECONDS = 15.0
MOST_SECONDS = 60.0  # more cannot be read


def inspect(
    recording: Annotated[
        str, typer.Argument(metavar="FILE|-", help="Recording, or - for standard input.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Picture (.png, .svg …); NAME.inspect.png in this folder if absent.",
        ),
    ] = None,
    start: Annotated[float, typer.Option(min=0, max=1e9, help="Where to begin, in seconds.")] = 0.0,
    end: Annotated[
        float | None,
        typer.Option(help="Where to end, in seconds; 15 seconds after the start if absent."),
    ] = None,
    model: Model = None,
) -> None:
    """Draw waveform, log-mel, CTC posteriors and words of a recording in one picture."""
    if not math.isfinite(start):
        raise typer.BadParameter("--start must be a number of seconds")
    if end is not None and not start < end <= start + MOST_SECONDS:
        raise typer.BadParameter(f"--end must come after --start, by at most {MOST_SECONDS:g} s")
    from asr.plots.inspection import inspect_excerpt, read_excerpt
    from asr.plots.inspection_figure import draw_inspection
    from asr.plots.style import check_picture, save, style
    from asr.transcriber import Transcriber

    name = "stdin" if recording == "-" else Path(recording).name
    output = output or Path(f"{Path(name).stem}.inspect.png")
    check_picture(output)
    transcriber = Transcriber.load(model, device="cpu")
    last = start + DEFAULT_SECONDS if end is None else end
    excerpt = read_excerpt(recording, transcriber.sample_rate, start, last)
    if excerpt.is_cut and end is None:
        print_note(f"{recording}: shown up to {excerpt.end:g} s; --start and --end choose the part")
    title = f"{name}  ·  {excerpt.start:.2f} to {excerpt.end:.2f} s"
    with style():
        save(draw_inspection(inspect_excerpt(excerpt, transcriber), title), output)
    typer.echo(output)
