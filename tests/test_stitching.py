"""Overlapping pieces give each word once, whatever each of them heard at its edge."""

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.alignment import Word
from asr.decoding.stitching import stitch

FRAME = 0.04
CUT, OVERLAP = 10.0, 2.0


def words(*entries: tuple[str, float, float]) -> list[Word]:
    return [Word(text, start, end, 0.5) for text, start, end in entries]


def texts(*parts: tuple[Word, ...]) -> list[str]:
    return [word.word for part in parts for word in part]


def test_a_word_on_the_cut_comes_once_although_its_times_differ() -> None:
    left = words(("A", 9.0, 9.2), ("LONG", 9.8, 10.24), ("WAY", 10.4, 10.6))
    right = words(("A", 9.04, 9.2), ("LONG", 9.76, 10.12), ("WAY", 10.36, 10.6), ("ON", 13, 13.2))
    assert texts(*stitch(left, right, CUT)) == ["A", "LONG", "WAY", "ON"]
    assert texts(*stitch(right[:3], [*left, right[3]], CUT)) == ["A", "LONG", "WAY", "ON"]


def test_a_word_heard_as_two_comes_whole_from_one_side() -> None:
    left = words(("ANOTHER", 9.6, 10.2), ("DAY", 10.4, 10.7))
    right = words(("AN", 9.6, 9.72), ("OTHER", 9.8, 10.2), ("DAY", 10.4, 10.7))
    assert texts(*stitch(left, right, CUT)) == ["ANOTHER", "DAY"]
    assert texts(*stitch(right, left, CUT)) == ["AN", "OTHER", "DAY"]


def test_repeated_words_stay_repeated() -> None:
    left = words(("NO", 9.68, 9.76), ("NO", 9.92, 10.0), ("NO", 10.16, 10.24))
    right = words(("NO", 9.72, 9.8), ("NO", 9.96, 10.04), ("NO", 10.2, 10.28))
    assert texts(*stitch(left, right, CUT)) == ["NO"] * 3


def test_what_one_side_heard_alone_is_its_own_affair() -> None:
    left = words(("UH", 9.0, 9.1), ("CUT", 11.8, 12.0))
    right = words(("OFF", 8.0, 8.1), ("UM", 10.5, 10.6))
    assert texts(*stitch(left, right, CUT)) == ["UH", "UM"]


def test_nothing_on_one_side_or_both() -> None:
    only = words(("A", 9.0, 9.2), ("B", 11.0, 11.2))
    assert texts(*stitch(only, [], CUT)) == ["A"]
    assert texts(*stitch([], only, CUT)) == ["B"]
    assert stitch([], [], CUT) == ((), ())


@given(st.integers(0, 10**6))
def test_two_hearings_of_the_same_words_give_them_once(seed: int) -> None:
    rng = random.Random(seed)
    spoken, frame = [], 100
    while frame < 400:
        length = rng.randint(2, 12)
        spoken.append(Word(f"W{frame}", frame * FRAME, (frame + length) * FRAME, 0.5))
        frame += length + rng.randint(1, 10)
    heard = [[_jitter(word, rng) for word in spoken] for _ in range(2)]
    left = [word for word in heard[0] if word.end <= CUT + OVERLAP]
    right = [word for word in heard[1] if word.start >= CUT - OVERLAP]
    kept = stitch(left, right, CUT)
    assert texts(*kept) == [word.word for word in spoken]
    edges = [edge for part in kept for word in part for edge in (word.start, word.end)]
    assert edges == sorted(edges)


def _jitter(word: Word, rng: random.Random) -> Word:
    """Move the edges of a word by up to half a frame, so that it never meets its neighbours."""
    start = word.start + rng.uniform(-0.5, 0.5) * FRAME
    return replace(word, start=start, end=word.end + rng.uniform(-0.5, 0.5) * FRAME)
