"""N-gram models by interpolated modified Kneser–Ney smoothing.

Reference: Chen & Goodman 1998, "An Empirical Study of Smoothing Techniques for Language
Modeling", in the form of Heafield et al. 2013, "Scalable Modified Kneser-Ney Language Model
Estimation" (KenLM's ``lmplz``), whose probabilities these are. Of a word w after a context c, and
with c' for c without its first word,

    p(w | c) = (a(c w) - D(a(c w))) / A(c) + b(c) p(w | c')
    b(c) = sum over v of D(a(c v)) / A(c)

where A(c) is the sum of a(c v) over all words v. At the highest order, and for n-grams that begin
with <s>, a is how often the n-gram occurs; below, how many different words go before it. D is the
discount of counts 1, 2, and 3 or more.

The n-grams of one order are rows of arrays, sorted. Row r stands for the n-gram that extends
the shorter n-gram in row ``context[r]`` of the order below by ``word[r]``. A pair of integers
thus names an n-gram of any order, and sorting does the counting: time and memory grow with the
length of the text alone.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.errors import ConfigError, TextError
from asr.text import ENGLISH

UNKNOWN, BEGIN, END = range(3)
SPECIAL = ("<unk>", "<s>", "</s>")
MAX_ORDER = 6

# What lmplz falls back on where a text is too small or too regular to tell (off counts 1, 2, 3+).
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class EncodedText:
    """A text as word numbers.

    Attributes:
        words: the vocabulary, sorted after the three of :data:`SPECIAL`; its indices are the ids.
        tokens: (time,) int32, each sentence from ``<s>`` to ``</s>``.
        misspelt: how often each word with characters outside the alphabet occurs.
        unknown: how many words of the text became ``<unk>``, the misspelt ones among them.
    """

    words: tuple[str, ...]
    tokens: NDArray[np.int32]
    misspelt: Counter[str]
    unknown: int

    @property
    def sentences(self) -> int:
        """The number of sentences."""
        return int(np.count_nonzero(self.tokens == END))


@dataclass(frozen=True)
class NgramOrder:
    """The n-grams of one order, sorted by context and word.

    Attributes:
        context: (rows,) row of the n-gram without its last word in the order below; 0 for words.
        word: (rows,) id of the last word.
        log10_prob: (rows,) base-10 logarithm of the word's probability after the context.
        log10_backoff: (rows,) what is added when a word is looked up after a shorter context.
    """

    context: IntArray
    word: IntArray
    log10_prob: FloatArray
    log10_backoff: FloatArray


@dataclass(frozen=True)
class NgramModel:
    """A back-off model: its vocabulary, its n-grams from order 1 upwards.

    Attributes:
        words: the vocabulary; indices are the ids.
        orders: n-grams of order 1, 2, ….
        discounts: of each order, taken off counts of 1, 2, and 3 or more.
        fallbacks: the orders whose discounts could not be estimated: :data:`FALLBACK_DISCOUNTS`.
    """

    words: tuple[str, ...]
    orders: tuple[NgramOrder, ...]
    discounts: tuple[tuple[float, float, float], ...]
    fallbacks: tuple[int, ...]


def encode_text(
    sentences: Iterable[Sequence[str]],
    vocabulary: int | Collection[str] | None = None,
    alphabet: str = ENGLISH,
) -> EncodedText:
    """Number the words of a text.

    A word with a character outside the alphabet becomes ``<unk>``, as does one outside the
    vocabulary: something was said there, and its neighbours were not side by side.

    Args:
        sentences: lists of normalised words, read once.
        vocabulary: how many of the most frequent words to keep (ties by the alphabet), or the
            words themselves, which are then all in the model, seen or not; all if ``None``.
        alphabet: the characters that a word may have.

    Raises:
        ConfigError: the vocabulary is empty, or has a word that cannot be spelled.
        TextError: the text has no word, or none of the alphabet or the vocabulary.
    """
    ids = _Ids()
    numbers = array("i")
    for sentence in sentences:
        numbers.append(BEGIN)
        numbers.extend(map(ids.__getitem__, sentence))
        numbers.append(END)
    # A typed empty array, because a buffer of nothing has no memory to share.
    tokens = np.frombuffer(numbers, np.intc) if numbers else np.zeros(0, np.intc)
    counts = np.bincount(tokens, minlength=len(ids) + len(SPECIAL))[len(SPECIAL) :].tolist()
    seen = dict(zip(ids, counts, strict=True))
    letters = frozenset(alphabet) - {" "}
    misspelt = Counter({word: n for word, n in seen.items() if not letters.issuperset(word)})
    spelt = {word: n for word, n in seen.items() if word not in misspelt}
    known = _limited(spelt, vocabulary, letters)
    unknown = sum(seen.values()) - sum(spelt.get(word, 0) for word in known)
    if not seen:
        raise TextError("the text has no word; give text to read")
    if not spelt:
        raise TextError(
            f"no word of the text, such as {next(iter(seen))!r}, can be written in the alphabet "
            f"{alphabet!r}; spell the words out"
        )
    if unknown == sum(seen.values()):
        raise TextError("the text has no word of the vocabulary; give one that belongs to the text")
    words = (*SPECIAL, *sorted(known))
    new_ids = {word: i for i, word in enumerate(words)}
    renumber = np.array(
        [UNKNOWN, BEGIN, END] + [new_ids.get(word, UNKNOWN) for word in seen], np.int32
    )
    return EncodedText(words, renumber[tokens], misspelt, unknown)


class _Ids(dict[str, int]):
    """Gives each new word the next id."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self) + len(SPECIAL)
        return number


def _limited(
    spelt: dict[str, int], vocabulary: int | Collection[str] | None, letters: frozenset[str]
) -> Collection[str]:
    if vocabulary is None:
        return spelt
    if not isinstance(vocabulary, int):
        for word in vocabulary:
            if not word or not letters.issuperset(word):
                raise ConfigError(
                    f"the vocabulary has {word!r}, which the alphabet cannot spell; leave it out"
                )
        vocabulary = set(vocabulary)
    if not vocabulary or (isinstance(vocabulary, int) and vocabulary < 0):
        raise ConfigError("the vocabulary must have at least one word")
    if isinstance(vocabulary, int):
        return sorted(spelt, key=lambda word: (-spelt[word], word))[:vocabulary]
    return vocabulary


def estimate(
    text: EncodedText,
    order: int = 3,
    prune: Sequence[int] = (0,),
    on_progress: Callable[[int], None] | None = None,
) -> NgramModel:
    """Estimate an n-gram model by interpolated modified Kneser–Ney smoothing.

    ``<s>`` is a context only, with probability 0; ``</s>`` is a word like others. Words are
    interpolated with the uniform distribution over the vocabulary without ``<s>``, which is all
    that ``<unk>`` gets if the text has no unknown word. Pruning takes n-grams out of the model,
    not out of the counts: their probability goes to the shorter context, so that every context
    still sums to one.

    Args:
        text: the training text.
        order: the longest n-grams, 1 to 6.
        prune: for order 1, 2, …: n-grams that occur so often or less are left out. The last
            threshold holds for all higher orders. Words are not pruned (limit the vocabulary).
        on_progress: called with 1 after each order was counted, and after it was estimated.

    Raises:
        ConfigError: the order or the thresholds make no sense.
    """
    thresholds = pruning_thresholds(order, prune)
    report = on_progress or (lambda steps: None)
    tables = _count(text.tokens, len(text.words), order, report)
    kept = [table.count > threshold for table, threshold in zip(tables, thresholds, strict=True)]
    kept[0][:] = True
    probs: list[FloatArray] = []
    backoffs: list[FloatArray] = []
    discounts, fallbacks = [], []
    for n, table in enumerate(tables):
        counts = _adjusted_counts(table, tables[n + 1] if n + 1 < order else None)
        if n == 0:
            counts[BEGIN] = 0
            contexts, lower = 1, np.full(len(counts), 1 / (len(counts) - 1))
        else:
            contexts, lower = len(probs[-1]), probs[-1][table.suffix]
        amounts = _discounts(counts)
        if amounts is None:
            amounts = FALLBACK_DISCOUNTS
            fallbacks.append(n + 1)
        discounts.append(amounts)
        discount = np.array([0.0, *amounts])[np.minimum(counts, 3)]
        freed = np.where(kept[n], discount, counts)
        total = np.bincount(table.context, counts, contexts)
        # A context that was never seen, such as </s>, leaves everything to the shorter one.
        backoff = np.divide(
            np.bincount(table.context, freed, contexts), total, np.ones(contexts), where=total > 0
        )
        probs.append((counts - discount) / total[table.context] + backoff[table.context] * lower)
        backoffs.append(backoff)
        report(1)
    probs[0][BEGIN] = 0.0
    backoffs = [*backoffs[1:], np.ones(len(probs[-1]))]
    return NgramModel(
        text.words,
        tuple(_orders(tables, kept, probs, backoffs)),
        tuple(discounts),
        tuple(fallbacks),
    )


def pruning_thresholds(order: int, prune: Sequence[int]) -> list[int]:
    """Return the threshold of each order; the last one given holds for the higher orders.

    Raises:
        ConfigError: the order or the thresholds make no sense.
    """
    if not 1 <= order <= MAX_ORDER:
        raise ConfigError(f"the order is {order}; choose one from 1 to {MAX_ORDER}")
    given = " ".join(map(str, prune))
    if not 1 <= len(prune) <= order:
        raise ConfigError(
            f"pruning by '{given}' does not fit order {order}; give at most one number an order"
        )
    if prune[0] != 0:
        raise ConfigError(
            f"pruning by '{given}' would take words; start with 0 and limit the vocabulary instead"
        )
    if list(prune) != sorted(prune):
        raise ConfigError(
            f"pruning by '{given}' keeps n-grams whose beginnings go; thresholds may not decrease"
        )
    return [*prune, *[prune[-1]] * (order - len(prune))]


@dataclass(frozen=True)
class _Counted:
    """The n-grams of one order as they occur in the text; arrays of (rows,)."""

    context: IntArray  # row of the n-gram without its last word, in the order below
    word: IntArray
    suffix: IntArray  # row of the n-gram without its first word, in the order below
    begins: NDArray[np.bool_]  # whether it begins with <s>
    count: IntArray


def _count(
    tokens: NDArray[np.int32], words: int, order: int, report: Callable[[int], None]
) -> list[_Counted]:
    nothing = np.zeros(words, np.int64)
    counts = np.bincount(tokens, minlength=words)
    tables = [_Counted(nothing, np.arange(words), nothing, np.arange(words) == BEGIN, counts)]
    report(1)
    rows = tokens  # the row of the n-gram that starts at each token, where there is one
    starts = np.arange(len(tokens), dtype=np.int32)
    for n in range(2, order + 1):
        starts = starts[tokens[starts + (n - 2)] != END]  # n-grams do not leave their sentence
        keys = rows[starts].astype(np.int64) * words + tokens[starts + (n - 1)]
        keys, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        context, word = np.divmod(keys, words)
        suffix = np.empty(len(keys), np.int64)
        suffix[inverse] = rows[starts + 1]
        rows = np.zeros(len(tokens), np.int32)
        rows[starts] = inverse
        tables.append(_Counted(context, word, suffix, tables[-1].begins[context], counts))
        report(1)
    return tables


def _adjusted_counts(table: _Counted, higher: _Counted | None) -> IntArray:
    """Return the counts at the highest order, and below it how many words go before.

    Nothing goes before ``<s>``, so n-grams that begin with it keep their counts.
    """
    if higher is None:
        return table.count.copy()
    preceding = np.bincount(higher.suffix, minlength=len(table.count))
    return np.where(table.begins, table.count, preceding)


def _discounts(counts: IntArray) -> tuple[float, float, float] | None:
    """Return the discounts of counts 1, 2, 3 and more; ``None`` where these cannot be told."""
    _, t1, t2, t3, t4, _ = np.bincount(np.minimum(counts, 5), minlength=6).tolist()
    if not (t1 and t2 and t3):
        return None
    y = t1 / (t1 + 2 * t2)
    amounts = (1 - 2 * y * t2 / t1, 2 - 3 * y * t3 / t2, 3 - 4 * y * t4 / t3)
    return amounts if min(amounts) > 0 else None


def _orders(
    tables: Sequence[_Counted],
    kept: Sequence[NDArray[np.bool_]],
    probs: Sequence[FloatArray],
    backoffs: Sequence[FloatArray],
) -> Iterable[NgramOrder]:
    """Yield what pruning leaves, its rows numbered anew."""
    new_rows = np.zeros(1, np.int64)
    for table, keep, prob, backoff in zip(tables, kept, probs, backoffs, strict=True):
        with np.errstate(divide="ignore"):
            # Rounding may lift a certainty above one, which readers refuse.
            log10_prob = np.log10(np.minimum(prob[keep], 1))
        log10_backoff = np.log10(np.minimum(backoff[keep], 1))
        yield NgramOrder(new_rows[table.context[keep]], table.word[keep], log10_prob, log10_backoff)
        new_rows = np.cumsum(keep) - 1
