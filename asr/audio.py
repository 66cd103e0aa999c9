"""Any recording to one float32 waveform at the rate that the model wants.

libsndfile decodes WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF and more; soxr resamples. What
libsndfile cannot read goes through the ``ffmpeg`` command where that is installed.

Samples keep their scale: integer formats map to -1..1, floating-point ones are taken as they
are, also beyond that range, since clipping would add distortion that the recording lacks.
"""

import io
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from io import FileIO
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from asr.containers import UNKNOWN_FRAMES, share_of_sound, shortfall, unwritten_sizes
from asr.errors import AudioError, AudioWarning
from asr.interrupts import deaf_to_ctrl_c

Waveform = npt.NDArray[np.float32]
OnDamage = Callable[[str], None]

# What libsndfile reads, then what needs ffmpeg.
AUDIO_SUFFIXES = frozenset(
    {".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus"}
    | {".rf64", ".sph", ".w64", ".wav"}
    | {".3gp", ".aac", ".amr", ".avi", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp4"}
    | {".webm", ".wma"}
)

# Containers that ffmpeg may open. Playlists are none of them: they name other files.
FFMPEG_FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dv,eac3,flac,flv,gsm,iff,ivf,loas,"
    "matroska,mlp,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nut,ogg,qcp,rm,shn,tak,truehd,tta,voc,w64,wav,wtv,wv"
)

BLOCK_SECONDS = 30.0
COPIED_AT_ONCE = 2**20  # bytes of a stream
# Bounds the memory of one block, whatever sample rate and channel count a header claims.
MAX_BLOCK_SAMPLES = 2**24
# Integer samples stored as float without scaling reach this; anything beyond is not sound.
MAX_AMPLITUDE = 2.0**31
MP3_SECONDS = 0.2  # read at once, and lost before a damaged place


def load_audio(source: str | Path | BinaryIO, sample_rate: int) -> Waveform:
    """Return a whole recording, channels averaged, at the wanted rate.

    Args:
        source: path of a sound file, an open binary stream, or ``"-"`` for standard input.
        sample_rate: rate of the result, Hz.

    Returns:
        (time,) float32, at least one sample; -1..1 unless a floating-point file goes beyond.

    Raises:
        AudioError: the recording is missing, empty, not sound, damaged from its start, holds
            NaN or infinite samples, or needs ffmpeg, which is not installed.

    Warns:
        AudioWarning: the recording is cut short or damaged; what could be read is returned.
    """
    blocks = list(iter_audio(source, sample_rate))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def warn_of_damage(message: str) -> None:
    """Warn with an :class:`~asr.errors.AudioWarning`."""
    warnings.warn(message, AudioWarning, stacklevel=4)


def iter_audio(
    source: str | Path | BinaryIO,
    sample_rate: int,
    block_seconds: float = BLOCK_SECONDS,
    on_damage: OnDamage = warn_of_damage,
) -> Generator[Waveform, None, None]:
    """Yield a recording in blocks of about ``block_seconds``; memory does not grow with length.

    Joined, the blocks are what :func:`load_audio` returns; see there for arguments and errors.
    ``on_damage`` is called with what it warns of, near the end, when the damage is met.
    """
    name = _name(source)
    try:
        with (
            _regular_file(source) as path,
            closing(_decode(path, name, block_seconds, on_damage)) as blocks,
        ):
            yield from _resample(_mono(blocks, name), sample_rate)
    except FileNotFoundError as error:
        raise AudioError(f"{name}: no such file; check the path") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise AudioError(f"{name}: cannot be read ({reason}); check its permissions") from error


def audio_duration(
    path: str | Path,
    most: float = math.inf,
    is_given_up: Callable[[], bool] = lambda: False,
) -> float:
    """Return the length of a sound file in seconds.

    The header tells, so a file cut short may hold less. Only a file whose header does not tell,
    or that needs ffmpeg, is decoded, and no further than little beyond ``most`` seconds, or until
    ``is_given_up``; of damage it does not warn.

    Raises:
        AudioError: as :func:`load_audio`.
    """
    seconds = _sndfile_duration(path)
    if seconds is not None:
        return seconds
    sample_rate = 16_000
    samples = 0
    with closing(iter_audio(path, sample_rate, on_damage=lambda _: None)) as blocks:
        for block in blocks:
            samples += len(block)
            if samples > most * sample_rate or is_given_up():
                break
    return samples / sample_rate


def stated_duration(path: str | Path) -> float | None:
    """Return about how long a sound file is, in seconds, without decoding it.

    Returns:
        What its header states; ``None`` where that is nothing, and for pipes, which must not be
        read before their turn.
    """
    try:
        if not Path(path).is_file():
            return None
    except OSError:  # a folder that may not be looked into, a name too long
        return None
    seconds = _sndfile_duration(path)
    return _ffmpeg_duration(Path(path)) if seconds is None else seconds


def _sndfile_duration(path: str | Path) -> float | None:
    try:
        with _open(Path(path)) as file:
            file.hide_unwritten_sizes()
            with _SequentialSound(file) as sound:
                if 0 < sound.frames < UNKNOWN_FRAMES:
                    share = share_of_sound(file) if sound.format == "MP3" else 1.0
                    return float(share * sound.frames / sound.samplerate)
    except (OSError, soundfile.LibsndfileError, TypeError):
        pass  # ffmpeg may read it, or decoding says what is wrong
    return None


def _name(source: str | Path | BinaryIO) -> str:
    if isinstance(source, str | Path):
        return "standard input" if source == "-" else str(source)
    return str(getattr(source, "name", "audio stream"))


@contextmanager
def _regular_file(source: str | Path | BinaryIO) -> Iterator[Path]:
    """Give a file that can seek: streams and named pipes are copied to a temporary one."""
    with ExitStack() as stack:
        if source == "-":
            if sys.stdin is None:
                raise AudioError("standard input is closed; pipe a recording into it")
            stream: BinaryIO = sys.stdin.buffer
        elif isinstance(source, str | Path):
            path = Path(source)
            if path.is_dir():
                raise AudioError(f"{path}: is a folder, not a sound file; name a file inside it")
            if path.is_file() or not path.exists():
                yield path
                return
            stream = stack.enter_context(path.open("rb"))
        else:
            stream = source
        name = _name(source)
        with _room(name):
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory()), "audio")
            file = stack.enter_context(copy.open("wb", buffering=0))
        while data := stream.read(COPIED_AT_ONCE):
            with _room(name):
                _write_all(file, data)
        yield copy


def _write_all(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


@contextmanager
def _room(name: str) -> Iterator[None]:
    """Tell failures of temporary files from those of the recording."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise AudioError(
            f"{name}: no temporary file can be written ({reason}); make room, or set TMPDIR"
        ) from error


def _mono(blocks: Iterator[tuple[int, Waveform]], name: str) -> Iterator[tuple[int, Waveform]]:
    """Average the channels of (sample rate, (frames, channels)) blocks."""
    for rate, block in blocks:
        if not np.abs(block).max() <= MAX_AMPLITUDE:  # false for NaN too
            raise AudioError(
                f"{name}: holds samples that are NaN, infinite or absurdly large; "
                "export the recording again"
            )
        channels = block.shape[1]
        # A product is some 70 times as fast as mean(axis=1) over so short an axis.
        weights = np.full(channels, 1 / channels, dtype=np.float32)
        yield rate, block[:, 0] if channels == 1 else block @ weights


def _resample(blocks: Iterator[tuple[int, Waveform]], sample_rate: int) -> Iterator[Waveform]:
    resampler = None
    empty = True
    for rate, block in blocks:
        if rate != sample_rate:
            resampler = resampler or soxr.ResampleStream(rate, sample_rate, num_channels=1)
            block = resampler.resample_chunk(block)
        if len(block):
            empty = False
            yield block
    if resampler:
        tail = resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True)
        if empty and not len(tail):  # less than one sample at the new rate
            tail = np.zeros(1, dtype=np.float32)
        if len(tail):
            yield tail


def _decode(
    path: Path, name: str, block_seconds: float, on_damage: OnDamage
) -> Generator[tuple[int, Waveform], None, None]:
    """Yield (sample rate, (frames, channels)) blocks."""
    with _open(path) as file:
        if not file.read(1):
            raise AudioError(f"{name}: the file is empty; record or fetch it again")
        file.hide_unwritten_sizes()
        try:
            sound = _SequentialSound(file)
        except (soundfile.LibsndfileError, TypeError):  # TypeError: the headerless ".raw"
            pass
        else:
            with sound:
                frames = yield from _sndfile_blocks(sound, file, name, block_seconds, on_damage)
            if frames:
                return
            if not _ffmpeg_command(path):
                problem = "holds no sound that can be read; record or fetch it again"
                raise AudioError(f"{name}: {problem}")
    yield from _ffmpeg_blocks(path, name, block_seconds, on_damage)


class _SoundFile(io.BufferedReader):
    """A file as libsndfile reads it, which believes what a header says."""

    unwritten: tuple[int, ...] = ()  # see :func:`~asr.containers.unwritten_sizes`

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Stay where it is when a damaged header sends libsndfile before the start."""
        try:
            return super().seek(offset, whence)
        except OSError:
            return self.tell()

    def readinto(self, buffer: Any) -> int:
        """Give sizes that were never written as unknown, as programs do that write to a pipe."""
        start = self.tell()
        count = super().readinto(buffer)
        for place in self.unwritten:
            for at in range(max(place, start), min(place + 4, start + count)):
                memoryview(buffer).cast("B")[at - start] = 0xFF
        return count

    def hide_unwritten_sizes(self) -> None:
        """Look for the samples of a WAV file that is said to have none; go to the start."""
        self.unwritten = unwritten_sizes(self)
        self.seek(0)


def _open(path: Path) -> _SoundFile:
    try:
        return _SoundFile(io.FileIO(path))
    except ValueError as error:  # no file has NUL or half a surrogate pair in its name
        raise FileNotFoundError(str(error)) from error


class _SequentialSound(soundfile.SoundFile):
    """A sound file read once from start to end.

    A ``SoundFile`` that can seek does so after each read, which costs time in Opus and fails at
    the end of a FLAC stream of unknown length.
    """

    def seekable(self) -> bool:
        return False


def _sndfile_blocks(
    sound: soundfile.SoundFile,
    file: _SoundFile,
    name: str,
    block_seconds: float,
    on_damage: OnDamage,
) -> Generator[tuple[int, Waveform], None, int]:
    """Yield (sample rate, (frames, channels)) blocks; return how many frames there were."""
    size = min(_block_frames(sound.samplerate, sound.channels, block_seconds), sound.frames)
    frames = 0
    problem = ""
    while frames < sound.frames and not problem:
        block = np.empty((size, sound.channels), dtype=np.float32)
        count, problem = _fill(block, sound, frames)
        if count <= 0:
            break
        frames += count
        yield sound.samplerate, block[:count]
    if frames and (problem := problem or shortfall(sound, file, frames)):
        on_damage(_damage(problem, name, frames / sound.samplerate))
    return frames


def _fill(block: Waveform, sound: soundfile.SoundFile, before: int) -> tuple[int, str]:
    """Read a block that ``before`` frames precede; return its frames and what ended it early."""
    # Of an MP3 nothing tells how much was decoded before the damage, so it comes in small parts.
    is_mp3 = sound.format == "MP3"
    step = _block_frames(sound.samplerate, sound.channels, MP3_SECONDS) if is_mp3 else len(block)
    count = 0
    for start in range(0, len(block), step):
        part = block[start : start + step]
        try:
            read = len(sound.read(out=part))
        except soundfile.LibsndfileError:
            return count if is_mp3 else sound.tell() - before, "cut short or damaged"
        count += read
        if read < len(part):
            break
    return count, ""


def _block_frames(rate: int, channels: int, block_seconds: float) -> int:
    return max(1, min(round(block_seconds * rate), MAX_BLOCK_SAMPLES // channels))


def _damage(problem: str, name: str, seconds: float) -> str:
    return f"{name}: {problem}; only {seconds:.2f} s of sound could be read"


def _ffmpeg_blocks(
    path: Path, name: str, block_seconds: float, on_damage: OnDamage
) -> Iterator[tuple[int, Waveform]]:
    command = _ffmpeg_command(path)
    if not command:
        raise AudioError(
            f"{name}: libsndfile cannot read it; unless it is damaged or no recording at all, "
            "install ffmpeg or convert it to WAV or FLAC"
        )
    frames, rate = 0, 1
    with ExitStack() as stack:
        with _room(name):
            log = stack.enter_context(tempfile.TemporaryFile())
        process = stack.enter_context(_deaf_process(command, log))
        assert process.stdout is not None
        for rate, block in _au_blocks(process.stdout, block_seconds):
            frames += len(block)
            yield rate, block
        complains = process.wait() != 0 or log.seek(0, os.SEEK_END) > 0
    if frames == 0:
        raise AudioError(
            f"{name}: neither libsndfile nor ffmpeg finds sound in it; "
            "check that it is an undamaged recording"
        )
    if complains:
        on_damage(_damage("cut short or damaged", name, frames / rate))


def _deaf_process(command: list[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start a process that ends with its output, not with Ctrl-C: a server finishes what runs."""
    with deaf_to_ctrl_c():
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        )


def _au_blocks(stream: IO[bytes], block_seconds: float) -> Iterator[tuple[int, Waveform]]:
    """Yield the blocks of a Sun AU stream of big-endian float32 samples."""
    header = stream.read(24)
    if len(header) < 24:
        return
    _magic, offset, _size, _encoding, rate, channels = struct.unpack(">4s5I", header)
    stream.read(offset - len(header))
    frame = np.dtype((">f4", (channels,)))
    size = _block_frames(rate, channels, block_seconds) * frame.itemsize
    while len(data := stream.read(size)) >= frame.itemsize:
        block = np.frombuffer(data, frame, count=len(data) // frame.itemsize)
        yield rate, block.astype(np.float32)


def _ffmpeg_command(path: Path) -> list[str]:
    """Return the command that decodes a file to a float stream, empty without ffmpeg."""
    command = _ffmpeg_input(path)
    if not command:
        return []
    return [*command, "-v", "error", "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "-"]


def _ffmpeg_duration(path: Path) -> float | None:
    """Return the seconds that ffmpeg finds in the headers of a file."""
    command = _ffmpeg_input(path)
    if not command:
        return None
    # It describes the input, then complains that no output was named.
    told = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).stderr
    found = re.search(rb"Duration: (\d+):(\d\d):(\d\d\.\d+)", told)
    if not found:
        return None
    hours, minutes, seconds = map(float, found.groups())
    return 3600 * hours + 60 * minutes + seconds


def _ffmpeg_input(path: Path) -> list[str]:
    """Return the start of a command that reads a file, empty without ffmpeg."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        return []
    # Neither the network nor playlists, which could name somebody else's files.
    limits = ["-protocol_whitelist", "file", "-format_whitelist", FFMPEG_FORMATS]
    return [ffmpeg, "-nostdin", *limits, "-i", f"file:{path}"]
