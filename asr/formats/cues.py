"""Words to subtitle cues that can be read in the time they are shown.

Cues end with segments and at long pauses. In between, breaks are chosen over the whole stretch
at once, as a good typesetter breaks a paragraph: few cues, well filled, parted where the
speaker halts.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from asr.errors import ConfigError

if TYPE_CHECKING:
    from asr.decoding.alignment import Word
    from asr.transcriber import Transcript

PAUSE = 0.8  # seconds of silence that always end a cue
FLUENT_BREAK = 0.5  # cost of a break without any pause; that of a quite empty cue is 1
SHORTEST = 0.001  # a cue must end after it starts


@dataclass(frozen=True)
class CueRules:
    """Limits that cues keep; a single long word may break the first and the last of them.

    Reference: Netflix, "Timed Text Style Guide: General Requirements", for the defaults.

    Attributes:
        line_length: most characters on a line.
        words_per_line: most words on a line; cues then have one line each, otherwise up to two.
        min_gap: least time between two cues, seconds; half of the time between their starts
            where these are very close.
        min_duration: least time a cue is shown, seconds, unless the next cue or the end of the
            recording comes before.
        max_duration: most time from the start of a cue's first word to the end of its last.

    Raises:
        ConfigError: a limit leaves no room for words.
    """

    line_length: int = 42
    words_per_line: int | None = None
    min_gap: float = 1 / 12
    min_duration: float = 5 / 6
    max_duration: float = 7.0

    def __post_init__(self) -> None:
        if self.line_length < 1 or (self.words_per_line is not None and self.words_per_line < 1):
            raise ConfigError("a line of subtitles must hold at least one word")

    @property
    def lines(self) -> int:
        """Most lines of a cue."""
        return 2 if self.words_per_line is None else 1


@dataclass(frozen=True, slots=True)
class Cue:
    """What is shown at once; ``start`` and ``end`` in seconds, whole milliseconds."""

    start: float
    end: float
    text: str  # one or two lines


def make_cues(transcript: "Transcript", rules: CueRules) -> list[Cue]:
    """Cut a transcript into cues in order of time."""
    groups = [
        group
        for segment in transcript.segments
        for stretch in _stretches(segment.words)
        for group in _break(stretch, rules)
    ]
    cues = []
    for group, following in zip_longest(groups, groups[1:]):
        start, end = group[0].start, group[-1].end
        if following:
            next_start = following[0].start
            latest = next_start - min(rules.min_gap, (next_start - start) / 2)
        else:
            latest = max(end, transcript.duration)
        end = min(max(end, start + rules.min_duration), latest)
        start = round(start, 3)
        end = max(round(end, 3), round(start + SHORTEST, 3))
        cues.append(Cue(start, end, _lay_out([word.word for word in group], rules.line_length)))
    return cues


def _stretches(words: Sequence["Word"]) -> Iterator[Sequence["Word"]]:
    """Yield the words between long pauses."""
    begin = 0
    for end in range(1, len(words) + 1):
        if end == len(words) or _pause_before(words, end) >= PAUSE:
            yield words[begin:end]
            begin = end


def _pause_before(words: Sequence["Word"], index: int) -> float:
    return words[index].start - words[index - 1].end


def _break(words: Sequence["Word"], rules: CueRules) -> list[Sequence["Word"]]:
    """Break a stretch into cues so that the sum of their costs is least.

    Reference: Knuth and Plass 1981, "Breaking Paragraphs into Lines".
    """
    cost_up_to = [0.0] + [math.inf] * len(words)
    begin_of_last = [0] * (len(words) + 1)
    for begin in range(len(words)):
        for end, filled in _fitting(words, begin, rules):
            cost = cost_up_to[begin] + (1 - filled) ** 2
            if end < len(words):
                halt = min(max(_pause_before(words, end), 0.0) / PAUSE, 1.0)
                cost += FLUENT_BREAK * (1 - halt)
            if cost < cost_up_to[end]:
                cost_up_to[end], begin_of_last[end] = cost, begin
    groups, end = [], len(words)
    while end:
        groups.append(words[begin_of_last[end] : end])
        end = begin_of_last[end]
    return groups[::-1]


def _fitting(words: Sequence["Word"], begin: int, rules: CueRules) -> Iterator[tuple[int, float]]:
    """Yield where a cue from ``begin`` may end, and how full it then is, 0..1."""
    most_words = rules.words_per_line or math.inf
    line, column, characters = 1, 0, 0
    for index in range(begin, len(words)):
        word = words[index]
        count = index + 1 - begin
        width = len(word.word)
        if column and column + 1 + width > rules.line_length:
            line, column = line + 1, width
        else:
            column += width + bool(column)
        seconds = word.end - words[begin].start
        full = line > rules.lines or count > most_words or seconds > rules.max_duration
        if full and count > 1:
            return
        characters += width + (count > 1)
        share = characters / (rules.lines * rules.line_length)
        yield index + 1, min(1.0, max(share, count / most_words))


def _lay_out(words: Sequence[str], line_length: int) -> str:
    """Join words; on two lines as equal as can be if they are too long for one."""
    text = " ".join(words)
    if len(text) <= line_length or len(words) == 1:
        return text
    spaces = [index for index, character in enumerate(text) if character == " "]
    middle = min(spaces, key=lambda index: abs(2 * index + 1 - len(text)))
    return f"{text[:middle]}\n{text[middle + 1 :]}"
