"""Prefix beam search with flashlight, with the words of an n-gram model or without."""

import copy
import math
import threading
from collections.abc import Iterable, Sequence
from heapq import nlargest
from itertools import groupby

import numpy as np
from flashlight.lib.text.decoder import (
    LM,
    CriterionType,
    DecodeResult,
    LexiconDecoder,
    LexiconDecoderOptions,
    LexiconFreeDecoder,
    LexiconFreeDecoderOptions,
    SmearingMode,
    Trie,
    ZeroLM,
)
from numpy.typing import NDArray
from torch import Tensor

from asr.decoding.config import DecoderConfig
from asr.decoding.hotwords import IMPOSSIBLE, HotwordModel
from asr.decoding.hypothesis import Hypothesis
from asr.decoding.priors import scaled_priors
from asr.decoding.spelling import LetterSpelling, Spelling
from asr.errors import ConfigError, LanguageModelError
from asr.lm.word_model import UNKNOWN, WordModel
from asr.text import CharTokenizer, normalise

LN10 = math.log(10)  # n-gram models and KenLM speak of base-10 logarithms
BEAM_THRESHOLD = 15.0  # natural log: what is so far behind the best prefix never returns
TOKENS_PER_FRAME = 8  # the likeliest ones; more change next to nothing and cost time
MOST_HOMOPHONES = 6  # flashlight takes no more
SMALLEST_WEIGHT = 1e-3  # of the language model: the bonus of hotwords is divided by it


class BeamDecoder:
    """Keeps the best prefixes from frame to frame.

    With a language model, prefixes are those of its words. A word that it does not list is
    spelled in pieces, beginnings of listed words or single letters, each of which costs
    ``unknown_score`` and the model's probability of ``<unk>``, so that names survive where the
    acoustics insist. The score of a hypothesis is that of its best path, the label priors divided
    out. Where words are searched by their sound, none but those with a pronunciation are written;
    if the model lists them all, the score sums over all paths in the beam, through any
    pronunciations. Without a language model, any characters may follow one another, and the score
    sums likewise.

    References: Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition
    using Bi-Directional Recurrent DNNs" (prefix search); Kahn et al. 2022, "Flashlight" (the
    implementation).

    Args:
        tokenizer: of the characters of words; with a language model it must know the space.
        config: beam width, weights and scores.
        model: the n-gram model.
        words: the lexicon; such as the model does not list count as ``<unk>`` for it. All words
            of the model that can be spelled if ``None``.
        hotwords: words or phrases to favour, also such as the model does not list.
        n_best: most hypotheses per utterance.
        spelling: of the model's words in the tokens of the acoustic model; characters if ``None``.

    Raises:
        ConfigError: hotwords without a model, or that cannot be spelled; no space to end words.
        LanguageModelError: a word of ``words`` cannot be spelled; it or a hotword has no
            pronunciation where words are searched by their sound.
    """

    def __init__(
        self,
        tokenizer: CharTokenizer,
        config: DecoderConfig,
        model: WordModel | None = None,
        *,
        words: Iterable[str] | None = None,
        hotwords: Sequence[str] = (),
        n_best: int = 1,
        spelling: Spelling | None = None,
    ) -> None:
        self.tokenizer = spelling.tokenizer if spelling else tokenizer
        self.n_best = n_best
        self._scorer: LM | None = None  # flashlight does not keep it alive
        if model is None:
            if hotwords or words is not None:
                what = "hotwords need" if hotwords else "a lexicon needs"
                raise ConfigError(f"{what} a language model; give one with --lm")
            self._end = np.zeros((0, len(self.tokenizer)), np.float32)
        else:
            if " " not in tokenizer.alphabet:
                raise ConfigError(
                    f"alphabet {tokenizer.alphabet!r} has no space, so words cannot be told apart; "
                    "decode without a language model"
                )
            self._spelling = spelling or LetterSpelling(tokenizer)
            words = None if words is None else list(words)
            lexicon = _lexicon(tokenizer, model, words)
            phrases = [check_hotword(phrase, tokenizer) for phrase in hotwords]
            self._check_written(words or (), phrases)
            self._prepare_words(config, model, lexicon, phrases)
        self._decoder = self._configured(config)
        self._lock = threading.Lock()  # of what is scored in Python, between which threads change

    def _check_written(self, words: Iterable[str], phrases: list[str]) -> None:
        for word in (*words, *phrases):
            if not self._spelling(word):
                raise LanguageModelError(
                    f"the model does not know how {word!r} sounds; leave it out, or give the model "
                    "a dictionary of asr lm pronounce with asr lm tune --pronunciations"
                )

    def _prepare_words(
        self,
        config: DecoderConfig,
        model: WordModel,
        lexicon: dict[str, tuple[int, float]],
        phrases: list[str],
    ) -> None:
        self._scorer = model.kenlm
        if phrases:
            weight = LN10 * max(config.lm_weight, SMALLEST_WEIGHT)
            self._scorer = HotwordModel(
                model,
                lexicon,
                phrases,
                bonus=config.hotword_score / weight,
                hope=BEAM_THRESHOLD / weight,
                word_score=config.word_score / weight,
            )
            lexicon = self._scorer.lexicon
        self._unknown = model.ids[UNKNOWN]
        [self._space] = self.tokenizer.encode(" ")
        self._trie = _trie(self._spelling, lexicon, self._unknown)
        self._sums = False
        if not self._spelling.letters:  # characters tell the words; phones do not
            shared = {self._unknown, len(model.words)}  # by the words that the model does not list
            listed = [(word, index) for word, (index, _) in lexicon.items()]
            self._names = {index: word for word, index in listed if index not in shared}
            self._unlisted = {
                tuple(tokens): word
                for word, index in listed
                if index in shared
                for tokens in self._spelling(word)
            }
            # Words that the model does not list share a state, where they would be added up.
            self._sums = not self._unlisted
        # A word counts once its space is read: let each utterance end in one, at no cost.
        self._end = np.full((1, len(self.tokenizer)), IMPOSSIBLE, np.float32)
        self._end[0, self._space] = 0.0

    def _configured(self, config: DecoderConfig) -> LexiconDecoder | LexiconFreeDecoder:
        blank = self.tokenizer.blank
        tokens = min(TOKENS_PER_FRAME, len(self.tokenizer))
        width, ctc = config.beam_width, CriterionType.CTC
        if self._scorer is None:
            free = LexiconFreeDecoderOptions(width, tokens, BEAM_THRESHOLD, 0.0, 0.0, True, ctc)
            return LexiconFreeDecoder(free, ZeroLM(), -1, blank, [])
        self._priors = scaled_priors(config, self.tokenizer)
        smallest = SMALLEST_WEIGHT if isinstance(self._scorer, HotwordModel) else 0.0
        self._options = LexiconDecoderOptions(
            beam_size=width,
            beam_size_token=tokens,
            beam_threshold=BEAM_THRESHOLD,
            lm_weight=max(config.lm_weight, smallest) * LN10,
            word_score=config.word_score,
            unk_score=config.unknown_score if self._spelling.letters else -math.inf,
            sil_score=0.0,
            log_add=self._sums,
            criterion_type=ctc,
        )
        return LexiconDecoder(
            self._options, self._trie, self._scorer, self._space, blank, self._unknown, [], False
        )

    def with_config(self, config: DecoderConfig, n_best: int = 1) -> "BeamDecoder":
        """Return a decoder of the same words with other weights.

        The bonus of hotwords grows with the weight of the language model.
        """
        decoder = copy.copy(self)
        decoder.n_best = n_best
        decoder._decoder = decoder._configured(config)
        return decoder

    def decode(self, log_probs: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Decode a batch; see :class:`~asr.decoding.hypothesis.Decoder`."""
        if int(lengths.max()) > log_probs.shape[1]:
            raise ValueError(f"length {int(lengths.max())} exceeds {log_probs.shape[1]} frames")
        rows = log_probs.float().numpy(force=True)
        return [
            self._decode(row[:length]) for row, length in zip(rows, lengths.tolist(), strict=True)
        ]

    def _decode(self, log_probs: NDArray[np.float32]) -> list[Hypothesis]:
        if not len(log_probs):
            return [Hypothesis("", (), (), 0.0, 0.0)]
        if self._scorer is not None:  # which tells what is common, in place of the priors
            log_probs = log_probs - self._priors
        emissions = np.ascontiguousarray(np.concatenate([log_probs, self._end]))
        with self._lock:
            results = self._decoder.decode(emissions.ctypes.data, *emissions.shape)
        found: dict[str, Hypothesis] = {}
        for result in results:  # best first; the same text may be spelled in other pieces
            hypothesis = self._hypothesis(result, len(log_probs))
            found.setdefault(hypothesis.text, hypothesis)
            if len(found) == self.n_best:
                break
        return list(found.values())

    def _hypothesis(self, result: DecodeResult, frames: int) -> Hypothesis:
        path = np.array(result.tokens[1 : frames + 1])  # it begins and ends outside the frames
        starts = np.flatnonzero((path != np.r_[self.tokenizer.blank, path[:-1]]) & (path > 0))
        tokens, timesteps = path[starts].tolist(), starts.tolist()
        if self._scorer is not None:
            tokens, timesteps = self._without_idle_spaces(tokens, timesteps)
        if self._scorer is None or self._spelling.letters:
            text = self.tokenizer.decode(tokens)
        else:
            words = self._words(tokens, [index for index in result.words if index >= 0])
            text = " ".join(words)
            tokens = _first_words(tokens, self._space, len(words))
            timesteps = timesteps[: len(tokens)]
        return Hypothesis(
            text,
            tuple(tokens),
            tuple(timesteps),
            result.score,
            self._acoustic_score(result, path),
            self._lm_score(result),
        )

    def _words(self, tokens: list[int], indices: list[int]) -> list[str]:
        """Return the words of indices; what the model does not list is known by its tokens."""
        sounds = [
            tuple(group) for is_gap, group in groupby(tokens, self._space.__eq__) if not is_gap
        ]
        words: list[str] = []
        for index in indices:
            name = self._names.get(index) or self._unlisted[sounds[len(words)]]
            words += name.split()
        return words

    def _acoustic_score(self, result: DecodeResult, path: NDArray[np.int64]) -> float:
        if self._scorer is None:
            return float(result.score)
        score = result.emittingModelScore  # of one path
        if self._sums:
            words = sum(index >= 0 for index in result.words)
            score = result.score - self._options.lm_weight * result.lmScore
            score -= self._options.word_score * words
        return float(score + self._priors[path].sum())

    def _lm_score(self, result: DecodeResult) -> float:
        log10_prob = float(result.lmScore)
        if isinstance(self._scorer, HotwordModel):
            log10_prob -= self._scorer.not_of_the_model(word for word in result.words if word >= 0)
        return log10_prob * LN10

    def _without_idle_spaces(
        self, tokens: list[int], timesteps: list[int]
    ) -> tuple[list[int], list[int]]:
        """Drop spaces at the edges and after other spaces."""
        last = max((i for i, token in enumerate(tokens) if token != self._space), default=-1)
        kept = [
            i
            for i, token in enumerate(tokens[: last + 1])
            if token != self._space or (i > 0 and tokens[i - 1] != self._space)
        ]
        return [tokens[i] for i in kept], [timesteps[i] for i in kept]


def _first_words(tokens: list[int], space: int, number: int) -> list[int]:
    """Return the tokens of the first words: those of a last one without an end are no word."""
    ends = [i for i, token in enumerate([*tokens, space]) if token == space]
    return tokens[: ends[number - 1]] if number else []


def check_hotword(phrase: str, tokenizer: CharTokenizer) -> str:
    """Return a hotword as the model would write it.

    Raises:
        ConfigError: it is empty or has characters outside the alphabet.
    """
    text = normalise(phrase)
    if not text or tokenizer.unknown([text]):
        raise ConfigError(
            f"hotword {phrase!r} cannot be spelled in the alphabet {tokenizer.alphabet!r}; "
            "spell it out"
        )
    return text


def _lexicon(
    tokenizer: CharTokenizer, model: WordModel, words: Iterable[str] | None
) -> dict[str, tuple[int, float]]:
    """Return id and base-10 log-probability of the words to use.

    Without ``words``, those that have other characters are left out: the model's author may have
    had a larger alphabet in mind.
    """
    listed = {word: (index, log10) for index, (word, log10) in enumerate(model.words.items())}
    unknown = listed.pop(UNKNOWN)
    if words is None:
        letters = frozenset(tokenizer.alphabet)
        if letters.issuperset("".join(listed)):  # nearly always, and quick to tell
            return listed
        return {word: entry for word, entry in listed.items() if letters.issuperset(word)}
    words = list(words)
    for word in words:
        if strange := tokenizer.unknown([word]):
            raise LanguageModelError(
                f"lexicon word {word!r} cannot be spelled: {''.join(strange)!r} is outside "
                f"the alphabet {tokenizer.alphabet!r}; spell it out or leave it out"
            )
    return {word: listed.get(word, unknown) for word in words}


def _trie(spelling: Spelling, lexicon: dict[str, tuple[int, float]], unknown: int) -> Trie:
    size = len(spelling.tokenizer)
    [space] = spelling.tokenizer.encode(" ")
    homophones: dict[tuple[int, ...], list[tuple[float, int]]] = {}
    for word in sorted(lexicon):  # neighbours share most of their branch, which is faster
        index, log10_prob = lexicon[word]
        for tokens in spelling(word.strip()):  # hotwords' gap is nothing but the space
            homophones.setdefault((*tokens, space), []).append((log10_prob, index))
    trie = Trie(size + 1, 0)
    for key, words in homophones.items():
        if len(words) > MOST_HOMOPHONES:
            words = nlargest(MOST_HOMOPHONES, words)
        for log10_prob, index in words:
            trie.insert(key, index, log10_prob)
    # Words end in a space. Within a word flashlight may leave for an unknown one from any node,
    # so let there be a node for each letter, on the way to a token that never comes.
    for letter in spelling.letters:
        trie.insert([letter, size], unknown, IMPOSSIBLE)
    trie.smear(SmearingMode.MAX)  # a prefix is as good as the best word that it may become
    return trie
