"""Errors of single utterances, counted with jiwer."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from itertools import zip_longest
from typing import TypedDict

import jiwer

from asr.text import normalise

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Counts:
    """Edit operations that turn references into hypotheses, over words or characters."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def length(self) -> int:
        """Words or characters of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per reference unit; may exceed 1. An empty reference counts as one unit."""
        return self.errors / max(self.length, 1)


@dataclass(frozen=True, slots=True)
class ScoredUtterance:
    """A reference beside its hypothesis.

    Attributes:
        id: name of the utterance.
        reference: normalised reference.
        hypothesis: normalised hypothesis.
        words: word operations.
        characters: character operations, spaces included.
        alignment: each word as (reference word, hypothesis word); the second is empty for a
            deletion, the first for an insertion.
        character_differences: each wrong character, likewise.
        audio: path of the recording, empty if unknown.
        duration: seconds, 0 if unknown.
        speaker: name, empty if unknown.
    """

    id: str
    reference: str
    hypothesis: str
    words: Counts
    characters: Counts
    alignment: tuple[Pair, ...]
    character_differences: tuple[Pair, ...]
    audio: str = ""
    duration: float = 0.0
    speaker: str = ""

    @property
    def differences(self) -> tuple[Pair, ...]:
        """The wrong words of the alignment."""
        return tuple(pair for pair in self.alignment if pair[0] != pair[1])

    def to_row(self) -> "Row":
        """Return the utterance as a flat object for a JSONL file."""
        return Row(
            id=self.id,
            audio=self.audio,
            duration=self.duration,
            speaker=self.speaker,
            reference=self.reference,
            hypothesis=self.hypothesis,
            hits=self.words.hits,
            substitutions=self.words.substitutions,
            deletions=self.words.deletions,
            insertions=self.words.insertions,
        )


class Row(TypedDict):
    """One line of ``utterances.jsonl``."""

    id: str
    audio: str
    duration: float
    speaker: str
    reference: str
    hypothesis: str
    hits: int
    substitutions: int
    deletions: int
    insertions: int


def score_utterance(
    id: str,
    reference: str,
    hypothesis: str,
    *,
    audio: str = "",
    duration: float = 0.0,
    speaker: str = "",
) -> ScoredUtterance:
    """Normalise both texts and count the fewest edits between them.

    Reference: Levenshtein 1966, "Binary codes capable of correcting deletions, insertions, and
    reversals".
    """
    reference, hypothesis = normalise(reference), normalise(hypothesis)
    words = jiwer.process_words(reference, hypothesis)
    characters = jiwer.process_characters(reference, hypothesis)
    return ScoredUtterance(
        id=id,
        reference=reference,
        hypothesis=hypothesis,
        words=_counts(words),
        characters=_counts(characters),
        alignment=tuple(_pairs(words)),
        character_differences=tuple(pair for pair in _pairs(characters) if pair[0] != pair[1]),
        audio=audio,
        duration=duration,
        speaker=speaker,
    )


def total(counts: Iterable[Counts]) -> Counts:
    """Return the sum of counts."""
    return reduce(Counts.__add__, counts, Counts())


def _counts(output: jiwer.WordOutput | jiwer.CharacterOutput) -> Counts:
    return Counts(output.hits, output.substitutions, output.deletions, output.insertions)


def _pairs(output: jiwer.WordOutput | jiwer.CharacterOutput) -> Iterable[Pair]:
    [reference], [hypothesis], [chunks] = output.references, output.hypotheses, output.alignments
    for chunk in chunks:
        left = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        right = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        # One of the two is empty where words were deleted or inserted.
        yield from zip_longest(left, right, fillvalue="")
