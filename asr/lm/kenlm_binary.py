"""KenLM's binary files: n-gram models that are mapped into memory instead of being read.

Reference: Heafield 2011, "KenLM: Faster and Smaller Language Model Queries"; the format is its
version 5. Written is the trie with quantised values, as ``build_binary trie -q 8 -b 8`` does;
KenLM itself reads them, and those of its other kinds.

In the trie the children of an n-gram are the n-grams with one more word *before* it: a query
begins at the new word and goes back in time as long as there are n-grams. Words are numbered by
their hashes, so that no other index of them is needed.
"""

import mmap
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.atomic import whole_file
from asr.errors import ConfigError, LanguageModelError, reason_of
from asr.lm.arpa import LOG10_ZERO
from asr.lm.ngram import FloatArray, IntArray, NgramModel

MAGIC = b"mmap lm http://kheafield.com/code format version "
BITS = 8  # of each probability and of each back-off

_VERSION, _QUANTISED_TRIE, _TRIE_VERSION, _QUANTISER_VERSION = b"5\n\0", 3, 1, 2
_SANITY = struct.Struct("<56s3f3IQ")  # values that tell a machine of another kind
_PARAMETERS = struct.Struct("<B3xfi?3xI")  # order, load of hash tables, kind, has words, version
_CHUNK = 1 << 16

FloatTable = NDArray[np.float32]


def write_binary(
    path: str | Path, model: NgramModel, on_progress: Callable[[int], None] | None = None
) -> None:
    """Write a model of order 2 or more as KenLM's quantised trie, whole or not at all.

    The logarithms of probabilities and back-offs become the nearest of some 250 in equal steps
    from the least to the greatest of their order; those of single words stay as they are.
    (The steps of ``build_binary`` hold as many n-grams each, and are wide where these are rare:
    probabilities near one can be off by a factor of two.) The same model gives the same bytes.

    Args:
        path: where to, by convention ``NAME.klm``.
        model: what to write. Each n-gram must be in it without its first word, too, as in all
            that :func:`~asr.lm.ngram.estimate` makes.
        on_progress: called with the number of n-grams that were written since the last call.

    Raises:
        ConfigError: the model holds single words only.
        OSError: the file cannot be written.
    """
    check_order(len(model.orders))
    hashes = np.array([_hash(word.encode()) for word in model.words[1:]], np.uint64)
    words = np.concatenate([[0], 1 + np.argsort(hashes)])  # model's number of each of KenLM's
    numbers = np.argsort(words)  # KenLM's number of each of the model's
    tables = _tables(model)
    with whole_file(path) as partial, partial.open("wb") as file:
        file.write(_header([len(order.word) for order in model.orders]))
        file.write(struct.pack("<Q", len(hashes)) + np.sort(hashes).tobytes() + bytes(8))
        file.write(struct.pack("<3B5x", _QUANTISER_VERSION, BITS, BITS))
        for probs, backoffs in tables[:-1]:
            file.write(probs.tobytes() + backoffs.tobytes())
        file.write(tables[-1][0].tobytes())
        for content, ngrams in _trie(model, numbers, tables):
            file.write(content)
            if on_progress:
                on_progress(ngrams)
        file.write("".join(f"{model.words[word]}\0" for word in words).encode())


def check_order(order: int) -> None:
    """Refuse a model of single words, which KenLM cannot hold.

    Raises:
        ConfigError: the order is 1.
    """
    if order == 1:
        raise ConfigError("KenLM's binary files hold no model of order 1; write an ARPA file")


def is_binary(path: str | Path) -> bool:
    """Return whether a file begins as KenLM's binary files do; not if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_vocabulary(path: str | Path) -> list[str]:
    """Return the words of a binary file of any kind, in the order of KenLM's numbers.

    Raises:
        LanguageModelError: the file cannot be read, or its words are not in it.
    """
    try:
        with (
            Path(path).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            (count,) = struct.unpack_from("<Q", content, _SANITY.size + _PARAMETERS.size)
            start = content.rfind(b"<unk>\0")  # the words are the end of the file
            if start < 0:
                raise ValueError("no words")
            *words, rest = content[start:].decode().split("\0")
    except OSError as error:
        reason = reason_of(error)
        raise LanguageModelError(f"{path}: cannot read this language model: {reason}") from error
    except (struct.error, UnicodeDecodeError, ValueError):
        start, count, words, rest = -1, 0, [], ""
    # KenLM's hash tables do not count an <unk> that the ARPA file lacked.
    if start < 0 or rest or len(words) - count not in (0, 1):
        raise LanguageModelError(
            f"{path}: does not end with its words; build or fetch it anew, with its vocabulary"
        )
    return words


def _hash(word: bytes) -> int:
    """MurmurHash64A, by Austin Appleby, with the seed 0."""
    factor, mask = 0xC6A4A7935BD1E995, (1 << 64) - 1
    result = len(word) * factor & mask
    whole = len(word) // 8 * 8
    for (block,) in struct.iter_unpack("<Q", word[:whole]):
        block = block * factor & mask
        block = (block ^ block >> 47) * factor & mask
        result = (result ^ block) * factor & mask
    if rest := word[whole:]:
        result = (result ^ int.from_bytes(rest, "little")) * factor & mask
    result = (result ^ result >> 47) * factor & mask
    return result ^ result >> 47


def _header(counts: Sequence[int]) -> bytes:
    sanity = _SANITY.pack(MAGIC + _VERSION, 0.0, 1.0, -0.5, 1, 0xFFFFFFFF, 0, 1)
    fixed = _PARAMETERS.pack(len(counts), 1.5, _QUANTISED_TRIE, True, _TRIE_VERSION)
    header = sanity + fixed + struct.pack(f"<{len(counts)}Q", *counts)
    return header + bytes(-len(header) % 8)


def _tables(model: NgramModel) -> list[tuple[FloatTable, FloatTable]]:
    """Return what stands for the probabilities and back-offs of order 2, 3, …, ascending each.

    The first of the probabilities, and the first two of the back-offs, are KenLM's own: of an
    n-gram that is missing, and of n-grams that no other goes on from, and others, without any.
    """
    tables = []
    for order in model.orders[1:]:
        backoffs = order.log10_backoff[order.log10_backoff != 0]
        tables.append(
            (
                np.array([-np.inf, *_steps(order.log10_prob, (1 << BITS) - 1)], np.float32),
                np.array([-0.0, 0.0, *_steps(backoffs, (1 << BITS) - 2)], np.float32),
            )
        )
    return tables


def _steps(values: FloatArray, steps: int) -> FloatArray:
    if not len(values):
        return np.zeros(steps)
    return np.linspace(values.min(), values.max(), steps)


def _nearest(values: FloatArray, centres: FloatTable) -> IntArray:
    return np.searchsorted((centres[1:] + centres[:-1]) / 2, values)


def _trie(
    model: NgramModel, numbers: IntArray, tables: Sequence[tuple[FloatTable, FloatTable]]
) -> Iterator[tuple[bytes, int]]:
    """Yield the n-grams of order 1, 2, …, and how many there are in each piece."""
    rows, keys = _backwards(model, numbers)
    word_bits = len(numbers).bit_length()
    for n, (order, row) in enumerate(zip(model.orders, rows, strict=True), start=1):
        count = len(row)
        prob, backoff = order.log10_prob[row], order.log10_backoff[row]
        if n < len(rows):
            extended = np.bincount(model.orders[n].context, minlength=count)[row] > 0
            firsts = np.arange(count + 1, dtype=np.int64) * len(numbers)
            children = np.searchsorted(keys[n], firsts)
        if n == 1:
            words = np.zeros(count + 2, "<f4, <f4, <u8")
            words["f0"][:count] = np.maximum(prob, LOG10_ZERO)
            words["f1"][:count] = np.where(extended | (backoff != 0), backoff, -0.0)
            words["f2"][:-1] = children
            yield words.tobytes(), count
            continue
        probs, backoffs = tables[n - 2]
        fields = [(keys[n - 1] % len(numbers), word_bits)]
        if n < len(rows):
            code = np.where(backoff != 0, 2 + _nearest(backoff, backoffs[2:]), extended)
            fields.append((code, BITS))
        fields.append((1 + _nearest(prob, probs[1:]), BITS))
        fields = [(np.append(values, 0), bits) for values, bits in fields]
        if n < len(rows):
            fields.append((children, len(model.orders[n].word).bit_length()))
        yield from _packed(fields, count)


def _backwards(model: NgramModel, numbers: IntArray) -> tuple[list[IntArray], list[IntArray]]:
    """Return the rows of each order in the trie's order, and their ascending keys.

    A key is the place of the parent in the order below, times the size of the vocabulary, plus the
    number of the n-gram's first word, which the parent has not.
    """
    columns = [numbers]
    rows, keys = [np.argsort(numbers)], [np.arange(len(numbers))]
    for order in model.orders[1:]:
        columns = [column[order.context] for column in columns] + [numbers[order.word]]
        place = columns[-1]
        for column, shorter in zip(columns[-2:0:-1], keys[1:], strict=True):
            place = np.searchsorted(shorter, place * len(numbers) + column)
        key = place * len(numbers) + columns[0]
        rows.append(np.argsort(key))
        keys.append(key[rows[-1]])
    return rows, keys


def _packed(fields: Sequence[tuple[IntArray, int]], count: int) -> Iterator[tuple[bytes, int]]:
    """Yield records of so many bits a field, least significant first, without gaps."""
    for start in range(0, count + 1, _CHUNK):
        bits = [
            values[start : start + _CHUNK, None] >> np.arange(width) & 1 for values, width in fields
        ]
        content = np.packbits(np.hstack(bits).astype(np.uint8), bitorder="little").tobytes()
        yield content, min(_CHUNK, count - start)
    yield bytes(8), 0  # so that eight bytes can be read anywhere
