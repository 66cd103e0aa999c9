"""A network that learns how words sound."""

import itertools
from operator import eq

import pytest
import torch

from asr.errors import ConfigError, TextError
from asr.letter_to_sound import LetterToSound, Pronunciation, train_letter_to_sound

SOUNDS = {"A": ["AH"], "B": ["B"], "C": ["K"], "X": ["K", "S"], "'": []}
PHONES = ("AH", "B", "CH", "K", "S")


def sound(word: str) -> Pronunciation:
    """Return how a word of the toy language sounds: CB is CH, and X two phones."""
    phones = [phone for letter in word.replace("CB", "H") for phone in SOUNDS.get(letter, ["CH"])]
    return " ".join(phones)


WORDS = ["".join(w) for n in range(1, 6) for w in itertools.product("ABCX", repeat=n)]


@pytest.fixture(scope="module")
def network() -> LetterToSound:
    taught = {word: (sound(word), "B") for word in WORDS[::3]}
    return train_letter_to_sound(
        taught, phones=PHONES, epochs=40, lr=0.02, hidden_size=24, num_layers=1
    )


def test_it_reads_words_that_it_never_saw(network: LetterToSound) -> None:
    unseen = [word for i, word in enumerate(WORDS) if i % 3]
    right = sum(map(eq, map(sound, unseen), network.pronounce(unseen)))
    assert right > 0.95 * len(unseen)


def test_company_changes_nothing(network: LetterToSound) -> None:
    words = ["XAB", "A", "CBCBCBCB", *WORDS[:400]]
    assert network.pronounce(words) == [way for word in words for way in network.pronounce([word])]
    assert network.pronounce([]) == []


def test_each_word_has_a_sound() -> None:
    silent = train_letter_to_sound(
        {"A": ("AH",)}, phones=PHONES, epochs=1, lr=1e-6, hidden_size=4, num_layers=1
    )
    with torch.no_grad():
        silent.output.bias[:: 1 + len(PHONES)] = 100.0  # the blank
    assert set(silent.pronounce(["A", "AA"])) <= set(PHONES)


def test_the_seed_decides() -> None:
    shape = {"hidden_size": 4, "num_layers": 1}
    taught = {word: (sound(word),) for word in WORDS[:40]}
    first, same, other = (
        train_letter_to_sound(taught, phones=PHONES, epochs=1, seed=seed, **shape)
        for seed in (1, 1, 2)
    )
    assert torch.equal(first.output.weight, same.output.weight)
    assert not torch.equal(first.output.weight, other.output.weight)


def test_what_cannot_be_read_or_built_is_refused(network: LetterToSound) -> None:
    with pytest.raises(TextError, match="'Z'"):
        network.pronounce(["AZ"])
    with pytest.raises(ConfigError, match="0 layers of 8 units"):
        LetterToSound("AB", PHONES, 8, 0)
