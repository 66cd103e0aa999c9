"""``asr plot``: the curves of a training as a picture."""

from pathlib import Path
from typing import Annotated

import typer


def plot(
    run_dir: Annotated[Path, typer.Argument(help="Run folder of a training.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Picture (.png, .svg …); curves.png in the run folder if absent."
        ),
    ] = None,
) -> None:
    """Draw loss, error rates, learning rate, gradient norm and speed over the steps of a training.

    A training that still runs can be drawn, too; one that was resumed is joined.
    """
    from asr.plots.style import save, style
    from asr.plots.training_curves import draw_training_curves
    from asr.plots.training_log import read_training_log

    log = read_training_log(run_dir)
    output = output or run_dir / "curves.png"
    with style():
        save(draw_training_curves(log, run_dir.resolve().name), output)
    typer.echo(output)
