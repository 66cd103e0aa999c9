"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

BATCH_SECONDS = 120.0  # as in asr.transcriber, which is slow to import

Model = Annotated[
    Path | None, typer.Option("--model", "-m", help="Model bundle; the packaged one if not given.")
]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:1 …; a GPU is used where there is one if not given."),
]
BatchSeconds = Annotated[
    float, typer.Option(min=1, help="Most audio in a batch, padding included, in seconds.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
