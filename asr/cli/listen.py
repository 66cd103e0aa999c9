"""``asr listen``: text while somebody speaks."""

import json
import math
import queue
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from asr.cli.options import Device, Hotwords, LanguageModel, Method, Model, load_transcriber

if TYPE_CHECKING:
    from asr.cli.sources import Source, Waveform
    from asr.streaming import Event, Stream

PATIENCE = 0.2  # seconds until Ctrl-C is noticed while nothing comes

Show = Callable[["Event"], None]


def listen(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[MICROPHONE|-]",
            help="Name or number of a microphone, the usual one if not given; - for raw PCM on "
            "standard input: signed 16-bit little-endian, mono.",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(
            min=1000,
            max=384_000,
            help="Samples a second; 16000 on standard input, a microphone's own if not given.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        Literal["txt", "jsonl"],
        typer.Option(help="Text, or one JSON object for each partial and final text."),
    ] = "txt",
    chunk: Annotated[float, typer.Option(help="Partial text comes this often, in seconds.")] = 0.64,
    look_ahead: Annotated[
        float,
        typer.Option(help="Sound that partial text waits for, in seconds; more makes it better."),
    ] = 0.32,
    model: Model = None,
    device: Device = None,
    decoder: Method = None,
    lm: LanguageModel = None,
    hotwords: Hotwords = None,
) -> None:
    """Write down what is said, while it is said.

    A terminal shows partial text as it comes; each pause makes it final. Elsewhere txt prints
    final text alone, a line for each stretch of speech. Ctrl-C ends it with what was heard.
    """
    from asr.cli.sources import microphone, standard_input
    from asr.streaming import Chunking, Stream

    chunking = Chunking(chunk, look_ahead)
    with standard_input(rate) if source == "-" else microphone(source, rate) as sound:
        transcriber = load_transcriber(
            model,
            device,
            language_model=lm,
            character_model=None,
            lexicon=None,
            hotwords=hotwords,
            method=decoder,
        )
        if source != "-":
            typer.echo(f"asr: listening to {sound.name} (Ctrl-C ends)", err=True)
        stream = Stream(transcriber, sound.sample_rate, chunking)
        with _screen(format) as (show, partials):
            _transcribe(stream, sound, show, partials)


def _transcribe(stream: "Stream", sound: "Source", show: Show, partials: bool) -> None:
    with _interruption() as is_interrupted:
        for samples in _until(is_interrupted, sound):
            for event in stream.feed(samples, partials=partials and not sound.is_behind):
                show(event)
        for event in stream.finish():
            show(event)


def _until(is_interrupted: Callable[[], bool], sound: "Source") -> Iterator["Waveform"]:
    """Yield what comes until the source ends; after an interruption, what is already there."""
    left = math.inf  # blocks
    while left > 0:
        if is_interrupted():
            left = min(left, sound.blocks.qsize())
        try:
            samples = sound.blocks.get(timeout=0 if is_interrupted() else PATIENCE)
        except queue.Empty:
            continue
        left -= 1
        if isinstance(samples, Exception):
            raise samples
        if samples is None:
            return
        yield samples


@contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """Take note of the first Ctrl-C, instead of stopping somewhere in the middle."""
    heard = []

    def handle(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        signal.signal(signal.SIGINT, before)  # the second one means it

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: bool(heard)
    finally:
        signal.signal(signal.SIGINT, before)


def _screen(format: str) -> AbstractContextManager[tuple[Show, bool]]:
    """Give what shows an event, and whether it wants partial ones."""
    if format == "jsonl":
        return nullcontext((_print_json, True))
    return _terminal() if sys.stdout.isatty() else nullcontext((_print_text, False))


def _print_json(event: "Event") -> None:
    print(json.dumps(asdict(event), ensure_ascii=False), flush=True)


def _print_text(event: "Event") -> None:
    if event.text:
        print(event.text, flush=True)


@contextmanager
def _terminal() -> Iterator[tuple[Show, bool]]:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(event: "Event") -> None:
            if event.type == "partial":
                live.update(Text(event.text, style="dim"), refresh=True)
                return
            live.update(Text(), refresh=True)
            if event.text:
                console.print(Text(event.text), soft_wrap=True)

        yield show, True
