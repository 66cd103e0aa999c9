"""What the commands say on stderr: errors, warnings, progress."""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from asr.errors import AsrWarning

_show_warning = warnings.showwarning


def print_error(error: Exception) -> None:
    """Print an error as one line."""
    text: object = error
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}"
    print(f"asr: error: {_one_line(text)}", file=sys.stderr, flush=True)


def print_note(text: str) -> None:
    """Print what is worth knowing as one line."""
    print(f"asr: {_one_line(text)}", file=sys.stderr, flush=True)


def print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning about a recording as one line, any other as Python does."""
    if issubclass(category, AsrWarning):
        print(f"asr: warning: {_one_line(message)}", file=sys.stderr, flush=True)
    else:
        _show_warning(message, category, filename, lineno, file, line)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


@contextmanager
def step_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how much of one step is done.

    Yields:
        What to call with the amount that was done since the last call.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


@contextmanager
def audio_progress(
    paths: Iterable[str | Path], seconds: float = 0.0, *, beside_output: bool = False
) -> Iterator[Callable[[float], None] | None]:
    """Show on a terminal how much of the recordings is done.

    Args:
        paths: the recordings.
        seconds: of all of them, where they are known; else each is asked.
        beside_output: whether results are printed meanwhile; on a terminal these are progress
            enough, and a bar would spoil them.

    Yields:
        What to call with the seconds of audio that were done; ``None`` if no bar is shown.
    """
    if not sys.stderr.isatty() or (beside_output and sys.stdout.isatty()):
        yield None
        return
    from concurrent.futures import ThreadPoolExecutor

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    # A batch may take half a minute: speed is the mean of some.
    with Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,
        speed_estimate_period=600,
    ) as bar:
        if not seconds:
            with ThreadPoolExecutor() as pool:  # ffmpeg is asked for some
                seconds = sum(pool.map(_duration, paths))
        task = bar.add_task("", total=seconds or None)
        yield lambda seconds: bar.advance(task, seconds)


def _duration(path: str | Path) -> float:
    from asr.audio import stated_duration

    return stated_duration(path) or 0.0
