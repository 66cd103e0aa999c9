"""How the words of a language model are written in the tokens of an acoustic model."""

import itertools
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

    def __call__(self, phrase: str) -> list[list[int]]:
        """Return the ways to write a word or phrase, spaces included; none if it has none."""
        ...


class LetterSpelling:
    """Words in characters, in one way each."""

    def __init__(self, tokenizer: CharTokenizer) -> None:
        self.tokenizer = tokenizer
        self.letters = frozenset(range(1, len(tokenizer))) - set(tokenizer.encode(" "))

    def __call__(self, phrase: str) -> list[list[int]]:
        """Return the characters of a word or phrase."""
        return [self.tokenizer.encode(phrase)]


class SoundSpelling:
    """Words in phones, as a dictionary has them."""

    letters: frozenset[int] = frozenset()

    def __init__(self, tokenizer: PhoneTokenizer, pronunciations: Pronunciations) -> None:
        self.tokenizer: CharTokenizer = tokenizer
        self._phones = tokenizer
        self._words = pronunciations.words

    def __call__(self, phrase: str) -> list[list[int]]:
        """Return the phones of a word or phrase, in each of its pronunciations."""
        if ways := self._words.get(phrase):  # nearly always, and quick to tell
            return [self._phones.encode_word(way) for way in ways]
        variants = [self._words.get(word, ()) for word in phrase.split()]
        phrases = itertools.islice(itertools.product(*variants), MOST_VARIANTS)
        return [self._phones.encode_words(way) for way in phrases]
