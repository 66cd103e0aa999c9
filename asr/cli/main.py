"""The ``asr`` command: its subcommands, and how it speaks of errors and warnings."""

import gc
import io
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from asr import __version__
from asr.cli.calibrate import calibrate
from asr.cli.check import check
from asr.cli.compare import compare
from asr.cli.evaluate import evaluate
from asr.cli.export import export
from asr.cli.info import info
from asr.cli.inspect import inspect
from asr.cli.listen import listen
from asr.cli.lm import app as lm
from asr.cli.messages import print_error, print_warning
from asr.cli.plot import plot
from asr.cli.prepare import prepare
from asr.cli.score import score
from asr.cli.serve import serve
from asr.cli.transcribe import transcribe
from asr.cli.tune import tune
from asr.errors import AsrError, AsrWarning


class Commands(TyperGroup):
    """Runs a subcommand; what the user can mend becomes one line on stderr and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand that was asked for."""
        gc.set_threshold(50_000)  # importing torch makes a million objects, none of them garbage
        # Closed ones (2>&-) are None, of which nothing here or elsewhere wants to know.
        sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
        sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # File names may hold bytes, and texts characters, that the terminal cannot show.
                stream.reconfigure(errors="backslashreplace")
        with warnings.catch_warnings():
            warnings.simplefilter("always", AsrWarning)
            warnings.showwarning = print_warning
            try:
                return super().invoke(ctx)
            except BrokenPipeError:
                raise  # whoever read the output had enough: Typer ends quietly
            except (AsrError, OSError) as error:
                print_error(error)
                raise typer.Exit(1) from error
            finally:
                gc.freeze()  # or leaving takes half a second, spent looking for garbage in torch


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"asr {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Speech to text, and the tools to train and measure it."""


for command in (
    transcribe,
    listen,
    serve,
    info,
    prepare,
    check,
    evaluate,
    score,
    compare,
    export,
    calibrate,
    inspect,
    plot,
):
    app.command()(command)
lm.command()(tune)
app.add_typer(lm, name="lm")
