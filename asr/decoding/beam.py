"""Prefix beam search with flashlight, with the words of an n-gram model or without."""

import copy
import math
from collections.abc import Iterable, Sequence

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
from asr.errors import ConfigError, LanguageModelError
from asr.lm.word_model import UNKNOWN, WordModel
from asr.text import CharTokenizer, normalise

LN10 = math.log(10)  # n-gram models and KenLM speak of base-10 logarithms
BEAM_THRESHOLD = 15.0  # natural log: what is so far behind the best prefix never returns
TOKENS_PER_FRAME = 8  # the likeliest ones; more change next to nothing and cost time
SMALLEST_WEIGHT = 1e-3  # of the language model: the bonus of hotwords is divided by it


class BeamDecoder:
    """Keeps the best prefixes from frame to frame.

    With a language model, prefixes are those of its words. A word that it does not list is
    spelled in pieces, beginnings of listed words or single letters, each of which costs
    ``unknown_score`` and the model's probability of ``<unk>``, so that names survive where the
    acoustics insist. The score of a hypothesis is that of its best path, the label priors divided
    out. Without a language model, any characters may follow one another, and the score sums over
    all paths in the beam.

    References: Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition
    using Bi-Directional Recurrent DNNs" (prefix search); Kahn et al. 2022, "Flashlight" (the
    implementation).

    Args:
        tokenizer: of the acoustic model; with a language model it must know the space.
        config: beam width, weights and scores.
        model: the n-gram model.
        words: the lexicon; such as the model does not list count as ``<unk>`` for it. All words
            of the model that can be spelled if ``None``.
        hotwords: words or phrases to favour, also such as the model does not list.
        n_best: most hypotheses per utterance.

    Raises:
        ConfigError: hotwords without a model, or that cannot be spelled; no space to end words.
        LanguageModelError: a word of ``words`` cannot be spelled.
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
    ) -> None:
        self.tokenizer = tokenizer
        self.n_best = n_best
        self._scorer: LM | None = None  # flashlight does not keep it alive
        if model is None:
            if hotwords:
                raise ConfigError("hotwords need a language model; give one with --lm")
            self._end = np.zeros((0, len(tokenizer)), np.float32)
        else:
            self._prepare_words(config, model, words, hotwords)
        self._decoder = self._configured(config)

    def _prepare_words(
        self,
        config: DecoderConfig,
        model: WordModel,
        words: Iterable[str] | None,
        hotwords: Sequence[str],
    ) -> None:
        tokenizer = self.tokenizer
        if " " not in tokenizer.alphabet:
            raise ConfigError(
                f"alphabet {tokenizer.alphabet!r} has no space, so words cannot be told apart; "
                "decode without a language model"
            )
        lexicon = _lexicon(tokenizer, model, words)
        self._scorer = model.kenlm
        if hotwords:
            phrases = [check_hotword(phrase, tokenizer) for phrase in hotwords]
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
        [self._space] = tokenizer.encode(" ")
        self._trie = _trie(tokenizer, lexicon, self._unknown)
        # A word counts once its space is read: let each utterance end in one, at no cost.
        self._end = np.full((1, len(tokenizer)), IMPOSSIBLE, np.float32)
        self._end[0, [tokenizer.blank, self._space]] = 0.0

    def _configured(self, config: DecoderConfig) -> LexiconDecoder | LexiconFreeDecoder:
        blank = self.tokenizer.blank
        self._priors = scaled_priors(config, self.tokenizer)
        tokens = min(TOKENS_PER_FRAME, len(self.tokenizer))
        width, ctc = config.beam_width, CriterionType.CTC
        if self._scorer is None:
            free = LexiconFreeDecoderOptions(width, tokens, BEAM_THRESHOLD, 0.0, 0.0, True, ctc)
            return LexiconFreeDecoder(free, ZeroLM(), -1, blank, [])
        smallest = SMALLEST_WEIGHT if isinstance(self._scorer, HotwordModel) else 0.0
        options = LexiconDecoderOptions(
            beam_size=width,
            beam_size_token=tokens,
            beam_threshold=BEAM_THRESHOLD,
            lm_weight=max(config.lm_weight, smallest) * LN10,
            word_score=config.word_score,
            unk_score=config.unknown_score,
            sil_score=0.0,
            log_add=False,
            criterion_type=ctc,
        )
        return LexiconDecoder(
            options, self._trie, self._scorer, self._space, blank, self._unknown, [], False
        )

    def with_config(self, config: DecoderConfig, n_best: int = 1) -> "BeamDecoder":
        """Return a decoder of the same words with other weights; hotwords keep their bonus."""
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
        return Hypothesis(
            self.tokenizer.decode(tokens),
            tuple(tokens),
            tuple(timesteps),
            result.score,
            self._acoustic_score(result, path),
            self._lm_score(result),
        )

    def _acoustic_score(self, result: DecodeResult, path: NDArray[np.int64]) -> float:
        if self._scorer is None:
            return float(result.score)
        return float(result.emittingModelScore + self._priors[path].sum())

    def _lm_score(self, result: DecodeResult) -> float:
        log10_prob = float(result.lmScore)
        if isinstance(self._scorer, HotwordModel):
            log10_prob -= self._scorer.not_of_the_model(word for word in result.words if word >= 0)
        return log10_prob * LN10

    def _without_idle_spaces(
        self, tokens: list[int], timesteps: list[int]
    ) -> tuple[list[int], list[int]]:
        """Drop spaces at the edges and after other spaces."""
        text = self.tokenizer.decode(tokens)
        kept = [
            i
            for i, character in enumerate(text)
            if character != " " or (i > 0 and text[i - 1] != " " and text[i:].strip())
        ]
        return [tokens[i] for i in kept], [timesteps[i] for i in kept]


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
    if words is None:
        words = [word for word in model.words if word != UNKNOWN]
        if tokenizer.unknown(["".join(words)]):  # rare, and costly to find out word by word
            words = filter(frozenset(tokenizer.alphabet).issuperset, words)
    else:
        words = list(words)
        for word in words:
            if strange := tokenizer.unknown([word]):
                raise LanguageModelError(
                    f"lexicon word {word!r} cannot be spelled: {''.join(strange)!r} is outside "
                    f"the alphabet {tokenizer.alphabet!r}; spell it out or leave it out"
                )
    unknown = model.ids[UNKNOWN], model.words[UNKNOWN]
    return {
        word: (model.ids[word], model.words[word]) if word in model.ids else unknown
        for word in words
    }


def _trie(tokenizer: CharTokenizer, lexicon: dict[str, tuple[int, float]], unknown: int) -> Trie:
    [space] = tokenizer.encode(" ")
    trie = Trie(len(tokenizer) + 1, 0)
    for word, (index, log10_prob) in lexicon.items():  # hotwords' gap is nothing but the space
        trie.insert([*tokenizer.encode(word.strip()), space], index, log10_prob)
    # Words end in a space. Within a word flashlight may leave for an unknown one from any node,
    # so let there be a node for each letter, on the way to a token that never comes.
    for letter in set(range(len(tokenizer))) - {tokenizer.blank, space}:
        trie.insert([letter, len(tokenizer)], unknown, IMPOSSIBLE)
    trie.smear(SmearingMode.MAX)  # a prefix is as good as the best word that it may become
    return trie
