"""How well an n-gram model foresees a text."""

import math
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.errors import TextError
from asr.lm.arpa import ArpaHead, read_arpa_head
from asr.lm.kenlm_binary import is_binary
from asr.lm.word_model import WordModel, check_alphabet
from asr.text import ENGLISH


@dataclass(frozen=True)
class Perplexity:
    """Sums over a text; the end of each sentence counts as a word.

    Attributes:
        sentences: number of sentences.
        words: number of words, ends of sentences not counted.
        unknown: how many of the words the model does not know.
        log10_prob: log probability of all words and ends.
        log10_prob_known: the same without the words that the model does not know.
    """

    sentences: int
    words: int
    unknown: int
    log10_prob: float
    log10_prob_known: float

    @property
    def including_unknown(self) -> float:
        """Perplexity per word, unknown words scored as ``<unk>``; infinite beyond floats."""
        return _perplexity(self.log10_prob, self.words + self.sentences)

    @property
    def excluding_unknown(self) -> float:
        """Perplexity per word that the model knows."""
        known = self.words - self.unknown + self.sentences
        return _perplexity(self.log10_prob_known, known)


def _perplexity(log10_prob: float, tokens: int) -> float:
    exponent = -log10_prob / tokens
    return 10.0**exponent if exponent < sys.float_info.max_10_exp else math.inf


def measure_perplexity(
    model: str | Path, sentences: Iterable[Sequence[str]], alphabet: str = ENGLISH
) -> Perplexity:
    """Score a text with an n-gram model.

    Args:
        model: ARPA file, compressed if its name ends in .gz, or KenLM's binary file.
        sentences: lists of normalised words.
        alphabet: characters of which most words of the model must consist.

    Raises:
        LanguageModelError: the model cannot be read, or its words are not in the alphabet.
        TextError: there is no sentence.
    """
    score, known = _scorer(model, alphabet)
    total = total_known = 0.0
    lines = words = unknown = 0
    for sentence in sentences:
        scores = score(sentence)
        missing = [x for x, word in zip(scores, sentence, strict=False) if word not in known]
        total += sum(scores)
        total_known += sum(scores) - sum(missing)
        lines += 1
        words += len(sentence)
        unknown += len(missing)
    if not lines:
        raise TextError("the text has no word; give text to score")
    return Perplexity(lines, words, unknown, total, total_known)


Scorer = Callable[[Sequence[str]], list[float]]  # words -> log10 of each and of the end


def _scorer(model: str | Path, alphabet: str) -> tuple[Scorer, Collection[str]]:
    """Return what scores sentences, and the words that it knows."""
    if not is_binary(model):
        head = read_arpa_head(model)
        if len(head.counts) == 1:
            check_alphabet(model, head.words, alphabet)
            return _word_scorer(head), head.words
    words = WordModel(model, alphabet)
    return words.score, words.words


def _word_scorer(head: ArpaHead) -> Scorer:
    """Score by words alone: KenLM reads no model of order 1."""
    unknown = head.words.get("<unk>", -100.0)  # as KenLM has it

    def score(sentence: Sequence[str]) -> list[float]:
        return [head.words.get(word, unknown) for word in (*sentence, "</s>")]

    return score
