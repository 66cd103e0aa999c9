"""Praat's TextGrid: intervals of speech and silence that together cover the recording."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from asr.transcriber import Transcript

SHORTEST = 0.001  # Praat refuses intervals of no length


class _Interval(NamedTuple):
    start: float
    end: float
    word: str = ""
    confidence: str = ""


def to_textgrid(transcript: "Transcript") -> str:
    """Return a TextGrid, long text format, with the interval tiers ``words``, ``confidence``.

    Reference: Boersma and Weenink, Praat manual, "TextGrid file formats".
    """
    intervals = _intervals(transcript)
    end = intervals[-1].end
    tiers = {
        "words": [interval.word for interval in intervals],
        "confidence": [interval.confidence for interval in intervals],
    }
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end:.3f}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, (name, labels) in enumerate(tiers.items(), start=1):
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f'        name = "{name}"',
            "        xmin = 0",
            f"        xmax = {end:.3f}",
            f"        intervals: size = {len(intervals)}",
        ]
        for index, (interval, label) in enumerate(zip(intervals, labels, strict=True), start=1):
            escaped = label.replace('"', '""')
            lines += [
                f"        intervals [{index}]:",
                f"            xmin = {interval.start:.3f}",
                f"            xmax = {interval.end:.3f}",
                f'            text = "{escaped}"',
            ]
    return "\n".join(lines) + "\n"


def _intervals(transcript: "Transcript") -> list[_Interval]:
    """Return words and the gaps between them; each begins, to the bit, where the last ended."""
    intervals: list[_Interval] = []
    now = 0.0
    for word in transcript.words:
        start = max(round(word.start, 3), now)
        end = max(round(word.end, 3), round(start + SHORTEST, 3))
        if start > now:
            intervals.append(_Interval(now, start))
        intervals.append(_Interval(start, end, word.word, f"{word.confidence:.3f}"))
        now = end
    duration = round(transcript.duration, 3)
    if duration > now or not intervals:
        intervals.append(_Interval(now, max(duration, SHORTEST)))
    return intervals
