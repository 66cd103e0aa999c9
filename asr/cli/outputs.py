"""Where transcripts go: into files at once, or to stdout in the order of their recordings."""

import errno
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from asr.atomic import probe_folder
from asr.cli.messages import print_error
from asr.cli.recordings import Recording
from asr.errors import AsrError, ConfigError
from asr.formats.registry import Format

if TYPE_CHECKING:
    from asr.transcriber import Segment, Transcript

Render = Callable[["Transcript"], str]


class Output:
    """Writes or prints transcripts.

    Args:
        recordings: what is transcribed.
        formats: of the files; the first one is that of stdout.
        render: of each format.
        output_dir: where the files go; stdout if ``None``.
        color: show doubtful words on a terminal.

    Attributes:
        streams: whether something is printed before all is done.
        failures: recordings that could not be transcribed.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        formats: Sequence[Format],
        render: dict[Format, Render],
        output_dir: Path | None = None,
        *,
        color: bool = False,
    ) -> None:
        self.recordings = recordings
        self.formats = formats
        self.render = render
        self.output_dir = output_dir
        self.color = color
        to_stdout = output_dir is None
        several = len(recordings) > 1
        self.is_text = formats[0] == "txt"
        self.grows = to_stdout and not several and self.is_text and not color
        self.streams = self.grows or (to_stdout and several and formats[0] != "json")
        self.failures = 0
        self._done = 0
        self._next = 0  # to be printed
        self._held: dict[int, Transcript | AsrError] = {}  # for those before them
        self._last: list[Transcript] = []  # printed when all is done
        self._reached: dict[int, float] = {}  # seconds of those in the middle
        self._segments: list[Segment] = []  # of a single recording

    def add_segment(self, number: int, segment: "Segment") -> None:
        """Hear of a stretch of a recording."""
        self._reached[number] = segment.end
        if len(self.recordings) > 1:
            return
        if self.grows:
            print(" " if self._segments else "", segment.text, sep="", end="", flush=True)
        self._segments.append(segment)

    def add(self, number: int, result: "Transcript | AsrError") -> None:
        """Take what came of a recording."""
        self._reached.pop(number, None)
        if self.output_dir:
            self._emit(number, result)
            self._done += not isinstance(result, AsrError)  # only now is it there
            return
        self._done += not isinstance(result, AsrError)
        self._held[number] = result
        while self._next in self._held:
            self._emit(self._next, self._held.pop(self._next))
            self._next += 1

    def finish(self) -> None:
        """Print what was kept for the end."""
        if self.formats[0] == "json" and not self.output_dir:
            from asr.formats.plain import to_dict

            entries = [to_dict(transcript) for transcript in self._last]
            print(json.dumps(entries, ensure_ascii=False, indent=2), flush=True)
        else:
            for transcript in self._last:
                self._print(transcript)

    @property
    def keeps_results(self) -> bool:
        """Whether something that is done waits to be printed."""
        return bool(self._held or self._last or self._segments) and not self.output_dir

    def interrupt(self) -> str:
        """Print what is done although the work was broken off, and return how far it came."""
        for number in sorted(self._held):
            self._emit(number, self._held.pop(number))
        if self.grows:
            print(flush=True)
        elif self._segments and not self._done and not self.output_dir:
            self._last.append(self._unfinished())
        self.finish()
        return f"interrupted: {self._state()}"

    def _state(self) -> str:
        if len(self.recordings) == 1 and not self.output_dir:
            path, reached = self.recordings[0].path, self._reached.get(0)
            return f"{path} is done up to {_clock(reached)}" if reached else "nothing is done"
        told = [f"{self._done} of {len(self.recordings)} recordings are done"]
        told += [
            f"{self.recordings[number].path} had come to {_clock(seconds)}"
            for number, seconds in sorted(self._reached.items())
        ]
        told += ["--resume goes on with the rest"] * bool(self.output_dir)
        return "; ".join(told)

    def _emit(self, number: int, result: "Transcript | AsrError") -> None:
        if isinstance(result, AsrError):
            if self.grows and self._segments:
                print(flush=True)
            self.failures += 1
            print_error(result)
        elif self.output_dir:
            try:
                self._write(self.recordings[number], result)
            except ConfigError as error:
                if getattr(error.__cause__, "errno", None) != errno.ENAMETOOLONG:
                    raise  # a full disk ends the run, a name does not
                self.failures += 1
                self._done -= 1
                print_error(error)
        elif self.grows:
            print(flush=True)
        elif self.streams:
            self._print(result)
        else:
            self._last.append(result)

    def _write(self, recording: Recording, transcript: "Transcript") -> None:
        from asr.atomic import whole_file

        assert self.output_dir
        for format, path in recording.output_paths(self.output_dir, self.formats).items():
            content = self.render[format](transcript)
            with _refusal(path), whole_file(path) as partial:
                partial.write_bytes(content.encode("utf-8", errors="backslashreplace"))

    def _print(self, transcript: "Transcript") -> None:
        """Print a transcript; a text after its path and a tab if there are several."""
        several = len(self.recordings) > 1
        prefix = f"{transcript.path}\t" if several and self.is_text else ""
        if self.color and self.is_text:
            from rich.console import Console

            from asr.formats.terminal import coloured

            print(prefix, end="")
            Console().print(coloured(transcript), soft_wrap=True)
        else:
            print(prefix + self.render[self.formats[0]](transcript), end="", flush=True)

    def _unfinished(self) -> "Transcript":
        from asr.transcriber import Transcript

        text = " ".join(segment.text for segment in self._segments)
        end = self._segments[-1].end
        return Transcript(self.recordings[0].path, end, text, tuple(self._segments))


def check_output_dir(output_dir: Path) -> None:
    """See that files can be made in a folder, or where it will be, before any work is done.

    Raises:
        ConfigError: they cannot.
    """
    with _refusal(output_dir):
        probe_folder(output_dir)


@contextmanager
def _refusal(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"{path}: cannot be written ({reason}); make room, or name another --output-dir"
        ) from error


def _clock(seconds: float) -> str:
    """Return hours, minutes and seconds as people read them."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
