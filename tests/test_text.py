"""The text normaliser and the character tokenizer."""

import unicodedata
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asr.errors import ConfigError, TextError
from asr.text import (
    APOSTROPHES,
    ENGLISH,
    INVISIBLE,
    PUNCTUATION,
    CharTokenizer,
    normalise,
    repeats,
)

# Characters that meet each other badly: marks, what composes, what changes when upper-cased.
AWKWARD = "aeısßŉǰΐﬁİ'’`´;- \t\u2003" + INVISIBLE
AWKWARD += "\u037e\u1fef\u1ffd\u0301\u0307\u030c\u0345"
any_text = st.text(max_size=40) | st.text(AWKWARD, max_size=12)
unhurried = settings(deadline=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("Hello, world!", "HELLO WORLD"),
        ("  a\tb\r\nc\n\n", "A B C"),
        ("\ufeffbyte-order mark", "BYTE ORDER MARK"),
        ("it’s ‘so’, isn‘t it", "IT'S 'SO' ISN'T IT"),
        ("don`t; don´t; donʼt; don＇t", "DON'T DON'T DON'T DON'T"),
        ("well-known — or so – they say…", "WELL KNOWN OR SO THEY SAY"),
        ("non‑breaking‐hyphen soft\u00adhyphen", "NON BREAKING HYPHEN SOFTHYPHEN"),
        ("“Quoted” «twice» (and) [more]", "QUOTED TWICE AND MORE"),
        ("Straße", "STRASSE"),
        ("naïve cafe\u0301", "NAÏVE CAFÉ"),
        ("fish & chips: 5 €, 10 %", "FISH & CHIPS 5 € 10 %"),
        ("\u00a0no-break\u2003space\u3000", "NO BREAK SPACE"),
        ("...", ""),
        ("‘Yes,’ he said. '' '", "'YES HE SAID"),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@unhurried
@given(any_text)
@example("ǰ")
@example("\u1fef")  # composes to a grave accent
@example("e\u200d\u0301")
def test_normalise_is_idempotent(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


@unhurried
@given(any_text)
def test_normalised_text_has_single_spaces_capitals_and_composed_characters(text: str) -> None:
    text = normalise(text)
    assert text == " ".join(text.split())
    assert unicodedata.is_normalized("NFC", text)
    assert unicodedata.normalize("NFC", text.upper()) == text
    assert not set(text) & set(APOSTROPHES + PUNCTUATION + INVISIBLE)


@unhurried
@given(any_text)
def test_unicode_forms_make_no_difference(text: str) -> None:
    assert normalise(unicodedata.normalize("NFD", text)) == normalise(
        unicodedata.normalize("NFC", text)
    )


@unhurried
@given(st.characters(categories=["L", "N", "S"], exclude_characters=APOSTROPHES + "<>|~^"))
@example("&")
@example("%")
@example("€")
@example("+")
def test_letters_digits_and_symbols_are_never_dropped(character: str) -> None:
    normalised = normalise(f"A{character}B")
    assert len(normalised) >= 3 and " " not in normalised


@unhurried
@given(st.text(alphabet=ENGLISH))
def test_decoding_reverses_encoding(text: str) -> None:
    tokens = CharTokenizer().encode(text)
    assert CharTokenizer().decode(tokens) == text
    assert CharTokenizer.blank not in tokens


@unhurried
@given(st.lists(st.characters(), min_size=1, unique=True), st.data())
def test_any_alphabet_works(characters: list[str], data: st.DataObject) -> None:
    tokenizer = CharTokenizer("".join(characters))
    text = data.draw(st.text(alphabet=characters))
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer) == len(characters) + 1


@unhurried
@given(any_text)
def test_unknown_characters_are_counted_never_dropped(text: str) -> None:
    tokenizer = CharTokenizer()
    unknown = tokenizer.unknown([text, text])
    assert all(text.count(c) * 2 == n and c not in ENGLISH for c, n in unknown.items())
    assert sum(unknown.values()) + 2 * sum(c in ENGLISH for c in text) == 2 * len(text)
    if unknown:
        with pytest.raises(TextError):
            tokenizer.encode(text)
    else:
        assert len(tokenizer.encode(text)) == len(text)


def test_the_error_names_the_unknown_characters_and_the_text() -> None:
    with pytest.raises(TextError, match=r"'5É' of 'CAFÉ 5' are not in the alphabet") as failure:
        CharTokenizer().encode("CAFÉ 5")
    assert "\n" not in str(failure.value)


def test_tokens_follow_the_alphabet_after_the_blank() -> None:
    tokenizer = CharTokenizer("BA ")
    assert tokenizer.encode("AB A") == [2, 1, 3, 2]
    assert tokenizer.decode([0, 2, 0, 0, 2, 1]) == "AAB"  # no repeats are collapsed
    assert tokenizer.unknown(["AXB", "XY"]) == Counter({"X": 2, "Y": 1})


@pytest.mark.parametrize("token", [-1, 4])
def test_a_token_outside_the_vocabulary_is_refused(token: int) -> None:
    with pytest.raises(ValueError, match=f"token {token} is outside the vocabulary of 4"):
        CharTokenizer("ABC").decode([1, token])


@pytest.mark.parametrize("alphabet", ["", "ABA"])
def test_an_alphabet_names_each_character_once(alphabet: str) -> None:
    with pytest.raises(ConfigError, match="each character once"):
        CharTokenizer(alphabet)


@unhurried
@given(st.lists(st.integers(1, 3), max_size=12))
def test_repeats_are_the_blanks_that_ctc_needs(tokens: list[int]) -> None:
    path: list[int] = []  # the shortest that collapses to the tokens
    for token in tokens:
        path += [0, token] if path and path[-1] == token else [token]
    assert len(path) == len(tokens) + repeats(tokens)
