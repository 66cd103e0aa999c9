"""Pieces of words: what is learnt, and that every text is read and written."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import ConfigError, TextError
from asr.lm.pieces import PieceTokenizer, learn_pieces

WORDS = {"LOW": 5, "LOWER": 2, "NEWEST": 6, "WIDEST": 3}


def test_the_example_of_the_article() -> None:
    """Sennrich et al. 2016, section 3.2, but with a mark in front of words, not after them."""
    assert learn_pieces(WORDS, 5) == ["ES", "EST", " L", " LO", " LOW"]


def naive(words: dict[str, int], number: int) -> list[str]:
    """Count all pairs anew for each piece."""
    spelled = {word: [" ", *word] for word in words}
    pieces: list[str] = []
    while len(pieces) < number:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, symbols in spelled.items():
            for pair in itertools.pairwise(symbols):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        for word, symbols in spelled.items():
            i = 0
            while i < len(symbols) - 1:
                if (symbols[i], symbols[i + 1]) == best:
                    symbols[i : i + 2] = ["".join(best)]
                i += 1
            spelled[word] = symbols
        if "".join(best) not in pieces:
            pieces.append("".join(best))
    return pieces


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.text("ABC", min_size=1, max_size=8), st.integers(1, 9), max_size=12),
    st.integers(0, 30),
)
def test_pieces_are_those_of_counting_anew(words: dict[str, int], number: int) -> None:
    assert learn_pieces(words, number) == naive(words, number)


@settings(max_examples=200)
@given(st.text(" 'ABC", max_size=20), st.integers(0, 20))
def test_every_text_comes_back(text: str, number: int) -> None:
    tokenizer = PieceTokenizer(pieces=learn_pieces({"ABBA": 3, "CAB": 2, "BABA'S": 1}, number))
    tokens = tokenizer.encode(text)
    assert tokenizer.decode([0, *tokens, 0]) == text
    assert all(0 < token < len(tokenizer) for token in tokens)


def test_the_longest_piece_is_read_first() -> None:
    tokenizer = PieceTokenizer(pieces=(" A", "AB", " AB", "BC"))
    symbols = [[tokenizer.symbols[i - 1] for i in tokenizer.encode(t)] for t in ("ABC AAB", "")]
    assert symbols == [[" AB", "C", " A", "AB"], []]
    assert len(tokenizer) == 1 + 28 + 4


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.lm.pieces.REMEMBERED", 3)
    tokenizer = PieceTokenizer(pieces=["AB"])
    for text in ("A B C D", "AB", "A E F G"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert len(tokenizer._words) <= 3


def test_what_is_wrong_is_told() -> None:
    with pytest.raises(TextError, match="characters 'é' of 'Cé' are not in the alphabet"):
        PieceTokenizer(pieces=["AB"]).encode("AB Cé")
    with pytest.raises(ValueError, match="token 30 is outside the vocabulary of 30"):
        PieceTokenizer(pieces=["AB"]).decode([30])
    with pytest.raises(ConfigError, match="'AB' has no space"):
        PieceTokenizer("AB", ["AB"])
    for piece in ("A", " ", "", "A B", "AB ", "Aé"):
        with pytest.raises(ConfigError, match="is no part of a word"):
            PieceTokenizer(pieces=[piece])
    with pytest.raises(ConfigError, match="named twice"):
        PieceTokenizer(pieces=["AB", "AB"])
