"""Text files, plain or compressed, and manifests as a stream of normalised sentences."""

import gzip
import io
import itertools
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

from asr.data.manifest import iter_manifest
from asr.errors import TextError, reason_of
from asr.text import normalise

Sentence = list[str]

MANIFEST = ".jsonl"  # how its name ends; its transcripts are wanted
PACKED = (".gz", ".xz")

# How much of a file is looked at to tell running text from one sentence a line.
SAMPLE_LINES = 1000
PUNCTUATED = 20  # one line of so many, or more, ends a sentence of running text

_CLOSING = "\"'”’)\\]"
_OPENING = "\"'“‘(\\["
# Titles and initials end in a full stop that ends no sentence; "I." mostly does.
_TITLES = ("Mr", "Mrs", "Ms", "Dr", "St", "Messrs", "MR", "MRS", "MS", "DR", "ST", "MESSRS")
_ABBREVIATIONS = "".join(rf"(?<!\b{word}\.)" for word in _TITLES)
_SENTENCE_END = re.compile(
    rf"(?<=[.?!]){_ABBREVIATIONS}(?<!\b[A-HJ-Z]\.)"
    rf"[{_CLOSING}]*(?:\s+(?=[{_OPENING}]*[A-Z])|\s*$)"
)
# Running text writes short what is said in full, and stands in full in transcripts.
_SPOKEN = {
    "MR": "MISTER",
    "MRS": "MISSUS",
    "DR": "DOCTOR",
    "ST": "SAINT",
    "MESSRS": "MESSIEURS",
}
_PUNCTUATED = re.compile(rf"[.?!][{_CLOSING}]*(?:\s|$)")

# In running text an apostrophe that opens a word is a quotation mark, except in such as these.
_ELISION = re.compile(
    r"'(TIS|TISN'T|TWAS|TWASN'T|TWERE|TWEREN'T|TWILL|TWON'T|TWOULD|TWOULDN'T|TWIXT|TAIN'T"
    r"|BOUT|CEPT|CAUSE|EM|GAINST|MID|MONGST|NEATH|NUFF|ROUND|SPECT|SPOSE|UNS?)"
)


def read_sentences(
    path: str | Path,
    *,
    one_per_line: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[Sentence]:
    """Yield the sentences of a file as lists of normalised words, never an empty one.

    Each transcript of a manifest (``.jsonl``) is a sentence.

    A file with hardly any sentence punctuation in its first :data:`SAMPLE_LINES` lines, such as a
    list of transcripts, has one sentence a line. Any other is running text: sentences end at ``.``,
    ``?``, ``!`` or an empty line and may cross lines, quotation marks that look like
    apostrophes are taken off the beginnings of words, and titles such as ``Mr.`` are spelled out.

    Args:
        path: UTF-8 text, what ends in .gz or .xz is decompressed on the way; or a manifest.
        one_per_line: take each line as one sentence, whatever its punctuation.
        on_progress: called with the bytes of the file that were read since the last call.

    Raises:
        TextError: the file is missing, damaged or no UTF-8 text.
        ManifestError: it is a manifest that cannot be read.
    """
    path = Path(path)
    if path.suffix in PACKED and path.with_suffix("").suffix == MANIFEST:
        raise TextError(f"{path}: a manifest is read as it is; unpack it first")
    if path.suffix == MANIFEST:
        yield from filter(None, (_words(utterance.text) for utterance in iter_manifest(path)))
        if on_progress:
            on_progress(path.stat().st_size)
        return
    try:
        with path.open("rb") as raw, _decompressed(path, raw) as text:
            lines = iter(text)
            if on_progress:
                lines = _reporting(lines, raw, on_progress)
            sample = list(itertools.islice(lines, SAMPLE_LINES))
            running = not one_per_line and _is_running(sample)
            lines = itertools.chain(sample, lines)
            for sentence in _split(lines) if running else lines:
                if words := _words(sentence, running):
                    yield words
    except (OSError, UnicodeDecodeError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise TextError(f"{path}: cannot read this text: {reason_of(error)}") from error


def _is_running(sample: list[str]) -> bool:
    lines = list(filter(str.strip, sample))
    return PUNCTUATED * sum(map(bool, map(_PUNCTUATED.search, lines))) >= max(1, len(lines))


def _words(sentence: str, running: bool = False) -> Sentence:
    words = normalise(sentence).split()
    if running:
        words = [_SPOKEN.get(word, word) for word in map(_unquoted, words)]
    return [word for word in words if word.strip("'")]


def _decompressed(path: Path, raw: BinaryIO) -> IO[str]:
    encoding = "utf-8-sig"
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(raw), encoding=encoding)
    if path.suffix == ".xz":
        return io.TextIOWrapper(lzma.open(raw), encoding=encoding)
    return io.TextIOWrapper(raw, encoding=encoding)


def _reporting(
    lines: Iterable[str], raw: BinaryIO, on_progress: Callable[[int], None]
) -> Iterator[str]:
    done = 0
    for number, line in enumerate(lines):
        if number % SAMPLE_LINES == 0:
            on_progress(raw.tell() - done)
            done = raw.tell()
        yield line


def _split(lines: Iterable[str]) -> Iterator[str]:
    """Yield the sentences of running text, whose paragraphs may be broken into lines."""
    pending: list[str] = []
    for line in lines:
        first, *others = _SENTENCE_END.split(line.strip())
        pending.append(first)
        for other in others:
            yield " ".join(pending)
            pending = [other]
        if not line.strip():
            yield " ".join(pending)
            pending = []
    yield " ".join(pending)


def _unquoted(word: str) -> str:
    return word if _ELISION.fullmatch(word) else word.lstrip("'")
