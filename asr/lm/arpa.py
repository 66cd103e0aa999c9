"""ARPA files: n-gram models as text, which every decoder reads.

Reference: the ``ngram-format`` manual page of SRILM.
"""

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from asr.atomic import whole_file
from asr.errors import LanguageModelError, reason_of
from asr.lm.ngram import NgramModel

# How the format writes a probability of zero, which only <s> has.
LOG10_ZERO = -99.0

_CHUNK = 100_000
_MARKS = {"<UNK>": "<unk>"}  # other tools' spelling, which KenLM understands as well


def write_arpa(
    path: str | Path, model: NgramModel, on_progress: Callable[[int], None] | None = None
) -> None:
    """Write a model as an ARPA file, compressed if its name ends in .gz, whole or not at all.

    The same model gives the same bytes.

    Args:
        path: where to.
        model: what to write.
        on_progress: called with the number of n-grams that were written since the last call.

    Raises:
        OSError: the file cannot be written.
    """
    with whole_file(path) as partial, _created(partial, Path(path).suffix == ".gz") as file:
        file.write("\\data\\\n")
        for n, order in enumerate(model.orders, start=1):
            file.write(f"ngram {n}={len(order.word)}\n")
        for n in range(1, len(model.orders) + 1):
            file.write(f"\n\\{n}-grams:\n")
            for lines in _chunks(model, n):
                file.write("".join(lines))
                if on_progress:
                    on_progress(len(lines))
        file.write("\n\\end\\\n")


@contextmanager
def _created(path: Path, compressed: bool) -> Iterator[IO[str]]:
    with path.open("wb") as raw:
        if compressed:
            # Neither time nor name of the file, so that equal models are equal files.
            with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed, _text(packed) as file:
                yield file
        else:
            with _text(raw) as file:
                yield file


def _text(binary: IO[bytes] | gzip.GzipFile) -> io.TextIOWrapper:
    return io.TextIOWrapper(binary, encoding="utf-8", newline="\n")


def _chunks(model: NgramModel, n: int) -> Iterator[list[str]]:
    order = model.orders[n - 1]
    words = np.array(model.words, object)
    line = "%.7g\t" + " ".join(["%s"] * n) + ("\t%.7g\n" if n < len(model.orders) else "\n")
    for start in range(0, len(order.word), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(order.word)))
        columns = [np.maximum(order.log10_prob[rows], LOG10_ZERO).tolist()]
        shorter = rows
        for lower in reversed(model.orders[:n]):
            columns.insert(1, words[lower.word[shorter]].tolist())
            shorter = lower.context[shorter]
        if n < len(model.orders):
            columns.append(order.log10_backoff[rows].tolist())
        yield list(map(line.__mod__, zip(*columns, strict=True)))


@dataclass(frozen=True)
class ArpaHead:
    """The beginning of an ARPA file.

    Attributes:
        counts: how many n-grams of order 1, 2, … the file announces.
        words: base-10 logarithm of each word's probability without context; unknown words are
            ``<unk>``, also where the file has ``<UNK>``.
    """

    counts: tuple[int, ...]
    words: dict[str, float]


def read_arpa_head(path: str | Path) -> ArpaHead:
    """Read how long the n-grams of an ARPA file are, and its vocabulary.

    Args:
        path: ARPA file, compressed if its name ends in .gz.

    Raises:
        LanguageModelError: the file is missing, damaged or no ARPA file.
    """
    path = Path(path)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            counts = _read_counts(path, file)
            words: dict[str, float] = {}
            for line in file:
                if line.startswith("\\"):
                    break
                if fields := line.encode().split():  # at ASCII's spaces alone, as KenLM does
                    word = fields[1].decode()
                    words[_MARKS.get(word, word)] = float(fields[0])
    except (OSError, EOFError, zlib.error) as error:
        reason = reason_of(error)
        raise LanguageModelError(f"{path}: cannot read this language model: {reason}") from error
    except UnicodeDecodeError as error:
        raise _malformed(path, "it is no UTF-8 text") from error
    except (ValueError, IndexError) as error:
        raise _malformed(path, f"a line of its 1-grams is malformed ({error})") from error
    if len(words) != counts[0]:
        raise _malformed(path, f"it announces {counts[0]} words and has {len(words)}")
    return ArpaHead(counts, words)


def _read_counts(path: Path, file: IO[str]) -> tuple[int, ...]:
    lines = (line.strip() for line in file)
    if next((line for line in lines if line), None) != "\\data\\":
        raise _malformed(path, "it does not begin with \\data\\")
    counts: list[int] = []
    for line in lines:
        if line == "\\1-grams:" and counts:
            return tuple(counts)
        if line:
            match = re.fullmatch(r"ngram\s+(\d+)\s*=\s*(\d+)", line)
            if not match or int(match[1]) != len(counts) + 1:
                raise _malformed(path, f"its header has the line {line[:60]!r}")
            counts.append(int(match[2]))
    raise _malformed(path, "it ends within its header")


def _malformed(path: Path, problem: str) -> LanguageModelError:
    return LanguageModelError(f"{path}: is no whole ARPA file: {problem}; build or fetch it anew")
