"""One line a word: tab-separated values, and the CTM of NIST's scoring tools."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.transcriber import Transcript


def to_tsv(transcript: "Transcript") -> str:
    """Return a table of ``start``, ``end`` (seconds), ``word`` and ``confidence`` (0..1).

    A word with a quotation mark is quoted as spreadsheets do it.
    """
    table = io.StringIO()
    writer = csv.writer(table, dialect="excel-tab", lineterminator="\n")
    writer.writerow(("start", "end", "word", "confidence"))
    for word in transcript.words:
        times = f"{word.start:.3f}", f"{word.end:.3f}"
        writer.writerow((*times, word.word, f"{word.confidence:.3f}"))
    return table.getvalue()


def to_ctm(transcript: "Transcript") -> str:
    """Return time-marked conversation lines: file, channel, start, duration, word, confidence.

    The file is named as sclite expects it, without folder and suffix. White space, which
    separates the fields, becomes ``_`` in it.

    Reference: NIST SCTK, "ctm file format".
    """
    name = ctm_name(transcript.path)
    return "".join(
        # Start and duration add up to the end in milliseconds.
        f"{name} 1 {word.start:.3f} {round(word.end, 3) - round(word.start, 3):.3f} "
        f"{word.word} {word.confidence:.3f}\n"
        for word in transcript.words
    )


def ctm_name(path: str) -> str:
    """Return what a recording is called in CTM lines."""
    return "stdin" if path == "-" else "_".join(Path(path).stem.split())
