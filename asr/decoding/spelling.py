"""How the words of a language model are written in the tokens of an acoustic model."""

import itertools
from collections.abc import Sequence
from typing import Protocol

from asr.pronunciation import PhoneTokenizer, Pronunciations
from asr.text import CharTokenizer

MOST_VARIANTS = 8  # of a phrase, whose words may each have several


class Spelling(Protocol):
    """Writes words in tokens.

    Attributes:
        tokenizer: of the acoustic model's output.
        letters: tokens of which unknown words may be made; none if they cannot be written.
    """

    tokenizer: CharTokenizer
    letters: frozenset[int]

    def ways(self, phrase: str) -> Sequence[str]:
        """Return the ways to write a word or phrase, spaces included; none if it has none."""
        ...

    def encode(self, way: str) -> list[int]:
        """Return the tokens of one of these ways."""
        ...


class LetterSpelling:
    """Words in characters, in one way each."""

    def __init__(self, tokenizer: CharTokenizer) -> None:
        self.tokenizer = tokenizer
        self.letters = frozenset(range(1, len(tokenizer))) - set(tokenizer.encode(" "))

    def ways(self, phrase: str) -> Sequence[str]:
        """Return the word or phrase itself."""
        return (phrase,)

    def encode(self, way: str) -> list[int]:
        """Return its characters."""
        return self.tokenizer.encode(way)


class SoundSpelling:
    """Words in phones, as a dictionary has them."""

    letters: frozenset[int] = frozenset()

    def __init__(self, tokenizer: PhoneTokenizer, pronunciations: Pronunciations) -> None:
        self.tokenizer: CharTokenizer = tokenizer
        self._phones = tokenizer
        self._words = pronunciations.words

    def ways(self, phrase: str) -> Sequence[str]:
        """Return the pronunciations of a word or phrase, of which each word is a line."""
        if ways := self._words.get(phrase):  # nearly always, and quick to tell
            return ways
        variants = [self._words.get(word, ()) for word in phrase.split()]
        phrases = itertools.islice(itertools.product(*variants), MOST_VARIANTS)
        return ["\n".join(way) for way in phrases]

    def encode(self, way: str) -> list[int]:
        """Return its phones."""
        return self._phones.encode_words(way.splitlines())
