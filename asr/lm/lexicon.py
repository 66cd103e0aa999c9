"""Lists of words for decoding."""

import gzip
import zlib
from pathlib import Path

from asr.errors import LanguageModelError


def read_lexicon(path: str | Path) -> list[str]:
    """Return the words of a lexicon: the first column of each line, each once.

    Pronunciations that follow, as in LibriSpeech's lexicon, are passed over: the words are
    spelled in characters.

    Args:
        path: UTF-8 text, compressed if its name ends in .gz.

    Raises:
        LanguageModelError: the file cannot be read or has no word.
    """
    path = Path(path)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(
            path, "rt", encoding="utf-8-sig"
        ) as file:
            words = dict.fromkeys(fields[0] for line in file if (fields := line.split()))
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise LanguageModelError(f"{path}: cannot read this lexicon: {reason}") from error
    if not words:
        raise LanguageModelError(f"{path}: this lexicon has no word; give one word a line")
    return list(words)
