"""Sound as it arrives: from a microphone, or as raw PCM from another program."""

import os
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.errors import AudioError, ConfigError

PCM_RATE = 16_000
READ_BYTES = 16_384  # half a second
READ_AHEAD = 4  # reads
BLOCK_SECONDS = 0.05  # of a microphone
MOST_BEHIND = 1.0  # seconds of a microphone's sound that may wait

Waveform = npt.NDArray[np.float32]


@dataclass
class Source:
    """Sound on its way.

    Attributes:
        name: for people.
        sample_rate: Hz.
        most_waiting: blocks that may wait; more mean that whoever takes them is too slow.
        blocks: (time,) float32 each; ``None`` or an error ends them.
    """

    name: str
    sample_rate: int
    most_waiting: float = float("inf")
    blocks: "queue.Queue[Waveform | Exception | None]" = field(default_factory=queue.Queue)

    @property
    def is_behind(self) -> bool:
        """Whether sound comes faster than it is taken."""
        return self.blocks.qsize() > self.most_waiting


@contextmanager
def standard_input(rate: int | None) -> Iterator[Source]:
    """Read signed 16-bit little-endian mono PCM from standard input.

    Raises:
        AudioError: standard input is a terminal, or closed.
    """
    if sys.stdin is None:
        raise AudioError("standard input is closed; pipe PCM into it")
    if sys.stdin.isatty():
        raise AudioError(
            "standard input is a terminal; pipe PCM into it, such as from "
            "arecord -t raw -f S16_LE -r 16000"
        )
    source = Source("standard input", rate or PCM_RATE, blocks=queue.Queue(READ_AHEAD))
    # A thread of its own, because who waits for input on Windows does not hear Ctrl-C.
    arguments = (sys.stdin.fileno(), source.blocks)
    threading.Thread(target=read_pcm, args=arguments, name="stdin", daemon=True).start()
    yield source


def read_pcm(file: int, blocks: "queue.Queue[Waveform | Exception | None]") -> None:
    """Put the samples of an open file descriptor into a queue, and ``None`` behind them.

    A sample may be split between two reads; a last half one is left out.
    """
    try:
        # Not through sys.stdin, whose lock a thread must not hold when Python ends.
        rest = os.read(file, READ_BYTES)
        if rest.startswith(b"RIFF"):
            raise AudioError(
                "standard input is a WAV file, not raw PCM; use asr transcribe -, "
                "or give arecord -t raw, ffmpeg -f s16le"
            )
        while rest:
            whole = len(rest) // 2 * 2
            if whole:
                samples = np.frombuffer(rest[:whole], "<i2").astype(np.float32)
                blocks.put(samples * np.float32(2**-15))
            more = os.read(file, READ_BYTES)
            rest = rest[whole:] + more if more else b""
        blocks.put(None)
    except (OSError, AudioError) as error:
        blocks.put(error)


@contextmanager
def microphone(name: str | None, rate: int | None) -> Iterator[Source]:
    """Record from a microphone.

    Args:
        name: part of its name, or its number; the system's choice if ``None``.
        rate: Hz; its own if ``None``.

    Raises:
        ConfigError: sounddevice or the PortAudio library is missing.
        AudioError: there is no such microphone, or it cannot be opened.
    """
    sounddevice = _sounddevice()
    try:
        device = int(name) if name and name.isdigit() else name
        settings = sounddevice.query_devices(device, "input")
        source = Source(
            settings["name"],
            rate or int(settings["default_samplerate"]),
            most_waiting=MOST_BEHIND / BLOCK_SECONDS,
        )

        def hear(samples: Waveform, frames: int, time: Any, status: Any) -> None:
            source.blocks.put(samples[:, 0].copy())

        recording = sounddevice.InputStream(
            samplerate=source.sample_rate,
            blocksize=round(BLOCK_SECONDS * source.sample_rate),
            device=device,
            channels=1,
            dtype="float32",
            callback=hear,
            finished_callback=lambda: source.blocks.put(None),  # unplugged, too
        )
        recording.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise AudioError(
            f"microphone {name or '(the usual one)'}: cannot be opened ({reason}); "
            "python -m sounddevice lists those there are"
        ) from error
    try:
        yield source
    finally:
        recording.close()


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the microphone needs the package sounddevice; in the project's folder: "
            "pip install -e '.[listen]'"
        ) from error
    except OSError as error:  # the wheels for Linux come without it
        raise ConfigError(
            "the microphone needs the PortAudio library; install it (on Debian and Ubuntu: "
            "apt install libportaudio2)"
        ) from error
    return sounddevice
