"""Joins the words of two pieces of a recording that overlap."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from asr.decoding.alignment import Word

# A CTC model places short words in a frame or two, which context may move by as much.
SLACK_SECONDS = 0.1

Words = tuple[Word, ...]


def stitch(left: Sequence[Word], right: Sequence[Word], cut: float) -> tuple[Words, Words]:
    """Share out the words of two pieces, none lost and none doubled.

    Words of the one that cover words of the other by half are the same stretch of speech. Each
    stretch comes whole from one piece: from the left if its middle lies before the cut.

    Args:
        left: words of a piece that goes on beyond the cut, in order.
        right: words of the piece that begins before the cut, in order.
        cut: time in seconds, as those of the words.

    Returns:
        The words to keep of each.
    """
    kept: tuple[list[Word], list[Word]] = [], []
    for stretch in _stretches(left, right):
        middle = sum(word.start + word.end for word, _ in stretch) / (2 * len(stretch))
        side = int(middle >= cut)
        kept[side].extend(word for word, origin in stretch if origin == side)
    if kept[0] and kept[1]:
        last, first = kept[0][-1], kept[1][0]
        kept[0][-1] = replace(last, end=min(last.end, first.start))
    return tuple(kept[0]), tuple(kept[1])


def _stretches(left: Sequence[Word], right: Sequence[Word]) -> Iterator[list[tuple[Word, int]]]:
    """Yield what covers each other, in order; each word with 0 for left or 1 for right."""
    words = [(word, 0) for word in left] + [(word, 1) for word in right]
    stretch: list[tuple[Word, int]] = []
    for word, side in sorted(words, key=lambda item: item[0].start):
        if stretch and not any(other != side and _same(word, known) for known, other in stretch):
            yield stretch
            stretch = []
        stretch.append((word, side))
    if stretch:
        yield stretch


def _same(one: Word, other: Word) -> bool:
    """Tell whether two words cover each other by half of the shorter one."""
    shared = min(one.end, other.end) - max(one.start, other.start) + SLACK_SECONDS
    shorter = min(one.end - one.start, other.end - other.start) + SLACK_SECONDS
    return shared > shorter / 2
