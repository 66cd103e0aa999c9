"""Subtitles: SubRip and WebVTT."""

import html
from typing import TYPE_CHECKING

from asr.formats.cues import CueRules, make_cues

if TYPE_CHECKING:
    from asr.transcriber import Transcript


def to_srt(transcript: "Transcript", rules: CueRules = CueRules()) -> str:  # noqa: B008 (frozen)
    """Return SubRip subtitles. The format has no escapes: characters stay as they are."""
    blocks = [
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{cue.text}\n"
        for number, cue in enumerate(make_cues(transcript, rules), start=1)
    ]
    return "\n".join(blocks)


def to_vtt(transcript: "Transcript", rules: CueRules = CueRules()) -> str:  # noqa: B008 (frozen)
    """Return WebVTT subtitles, ``&``, ``<`` and ``>`` escaped.

    Reference: W3C, "WebVTT: The Web Video Text Tracks Format".
    """
    blocks = [
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{html.escape(cue.text, False)}\n"
        for cue in make_cues(transcript, rules)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _clock(seconds: float, mark: str) -> str:
    """Return hours, minutes, seconds and, after ``mark``, milliseconds."""
    minutes, milliseconds = divmod(round(1000 * seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, milliseconds = divmod(milliseconds, 1000)
    return f"{hours:02}:{minutes:02}:{whole:02}{mark}{milliseconds:03}"
