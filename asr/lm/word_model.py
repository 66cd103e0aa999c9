"""A word n-gram model from a file, ready for queries through flashlight's KenLM."""

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary

from asr.errors import LanguageModelError
from asr.lm.arpa import read_arpa_head
from asr.lm.kenlm_binary import is_binary, read_vocabulary
from asr.text import ENGLISH

UNKNOWN = "<unk>"
_MARKS = frozenset({UNKNOWN, "<s>", "</s>"})


class WordModel:
    """An n-gram model over words.

    Args:
        path: ARPA file of order 2 to 6, compressed if its name ends in .gz, or KenLM's binary file.
        alphabet: characters of the recogniser, of which most words must consist.

    Attributes:
        words: base-10 logarithm of each word's probability without context, in the order of ids;
            ``<unk>`` has the id 0. ``<s>`` and ``</s>`` are not among them.
        ids: id of each word.
        kenlm: the model itself; its scores are base-10 logarithms.

    Raises:
        LanguageModelError: the file cannot be read, is no model of order 2 to 6, or its words
            cannot be written in the alphabet.
    """

    def __init__(self, path: str | Path, alphabet: str = ENGLISH) -> None:
        if is_binary(path):
            words = [UNKNOWN, *(word for word in read_vocabulary(path) if word not in _MARKS)]
            self.kenlm = _load(path, words)
            nothing = self.kenlm.start(True)  # no word, not even the begin of a sentence
            self.words = {word: self.kenlm.score(nothing, i)[1] for i, word in enumerate(words)}
            check_alphabet(path, self.words, alphabet)
        else:
            head = read_arpa_head(path)
            check_alphabet(path, head.words, alphabet)
            if len(head.counts) == 1:
                raise LanguageModelError(
                    f"{path}: holds single words only; give a model of order 2-6"
                )
            unknown = head.words.get(UNKNOWN, -100.0)  # as KenLM has it
            self.words = {UNKNOWN: unknown} | {
                word: log10 for word, log10 in head.words.items() if word not in _MARKS
            }
            self.kenlm = _load(path, list(self.words))
        self.ids = {word: i for i, word in enumerate(self.words)}

    def score(self, sentence: Sequence[str]) -> list[float]:
        """Return the base-10 log-probability of each word, and then of the sentence's end."""
        scores = []
        state = self.kenlm.start(False)
        for word in sentence:
            state, log10_prob = self.kenlm.score(state, self.ids.get(word, 0))
            scores.append(log10_prob)
        return [*scores, self.kenlm.finish(state)[1]]


def check_alphabet(path: str | Path, words: dict[str, float], alphabet: str) -> None:
    """Refuse a model whose words cannot be written in the alphabet, say for their case.

    A few other words do no harm; a text in small letters, though, still has some ``I``.

    Args:
        path: where the model comes from, for the message.
        words: base-10 logarithm of each word's probability.
        alphabet: characters of the recogniser.

    Raises:
        LanguageModelError: by probability, half of its words or more have other characters.
    """
    letters = frozenset(alphabet)
    known = words.keys() - _MARKS
    if known and letters.issuperset("".join(known)):  # nearly always, and quick to tell
        return
    strange = [word for word in words if word in known and not letters.issuperset(word)]
    share = {word: 10 ** min(words[word], 0.0) for word in known}
    if 2 * sum(share[word] for word in strange) >= sum(share.values()):
        example = f", such as {max(strange, key=words.__getitem__)!r}" if strange else ""
        raise LanguageModelError(
            f"{path}: most of its words are not in the alphabet {alphabet!r}{example}; build it "
            "from text in these characters"
        )


_loading = threading.Lock()  # stderr is all threads'


def _load(path: str | Path, words: list[str]) -> KenLM:
    try:
        with _loading, _quiet_stderr():
            # KenLM takes bytes as they are: those that this system's open() understands.
            name = str(path).encode("mbcs") if sys.platform == "win32" else os.fsencode(path)
            return KenLM(name, Dictionary(words))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise LanguageModelError(
            f"{path}: KenLM cannot read this model: {reason}; build or fetch it anew"
        ) from error


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep KenLM's loading bar, which cannot be switched off, from the terminal."""
    sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
