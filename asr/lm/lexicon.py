"""Lists of words for decoding."""

import gzip
import zlib
from pathlib import Path

from asr.errors import LanguageModelError, reason_of
from asr.text import ENGLISH


def read_lexicon(path: str | Path, alphabet: str = ENGLISH) -> list[str]:
    """Return the words of a lexicon: the first column of each line, each once.

    Pronunciations that follow, as in LibriSpeech's lexicon, are passed over: how words sound, the
    model's own dictionary tells.

    Args:
        path: UTF-8 text, compressed if its name ends in .gz.
        alphabet: characters of the recogniser.

    Raises:
        LanguageModelError: the file cannot be read, has no word, or one that the alphabet cannot
            spell.
    """
    path = Path(path)
    letters = frozenset(alphabet)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(
            path, "rt", encoding="utf-8-sig"
        ) as file:
            words = dict.fromkeys(fields[0] for line in file if (fields := line.split()))
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        reason = reason_of(error)
        raise LanguageModelError(f"{path}: cannot read this lexicon: {reason}") from error
    if not words:
        raise LanguageModelError(f"{path}: this lexicon has no word; give one word a line")
    for word in words:
        if not letters.issuperset(word):
            raise LanguageModelError(
                f"{path}: word {word!r} cannot be spelled in the alphabet {alphabet!r}; write it "
                "in these characters or leave it out"
            )
    return list(words)
