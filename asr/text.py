"""The one text normaliser and the character tokenizer.

Training targets, references and hypotheses all pass through :func:`normalise`, so that a
word error rate never measures a difference in spelling conventions. The convention is
LibriSpeech's: capital letters, apostrophes kept, no other punctuation.
"""

import operator
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from asr.errors import ConfigError, TextError

ENGLISH = " 'ABCDEFGHIJKLMNOPQRSTUVWXYZ"

APOSTROPHES = "’‘ʼ＇`´"
# Marks that carry no sound. Anything else ("&", "%", "5", "€") is read aloud in some way, so it
# is kept and reported as unknown rather than dropped.
PUNCTUATION = '.,;:!?¡¿"()[]{}<>…‥–—‒―-‐‑_/\\|~^«»“”„‟‹›·•'
INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060\u00ad"

_TRANSLATION = (
    {ord(c): "'" for c in APOSTROPHES}
    | {ord(c): " " for c in PUNCTUATION}
    | {ord(c): None for c in INVISIBLE}
)


def normalise(text: str) -> str:
    """Return ``text`` in LibriSpeech's convention: upper case, apostrophes, single spaces.

    Unicode is composed (NFC), typographic apostrophes become ``'``, punctuation becomes a
    space, as does an apostrophe that stands alone; byte-order marks and other invisible
    characters go. Letters, digits and symbols are never dropped: what the alphabet lacks is for
    :class:`CharTokenizer` to report. The function is idempotent.
    """
    text = unicodedata.normalize("NFC", text.translate(_TRANSLATION)).upper()
    # Upper-casing may decompose ("ǰ" has no composed capital), hence the second composition.
    words = unicodedata.normalize("NFC", text).translate(_TRANSLATION).split()
    return " ".join(word for word in words if word.strip("'"))


class CharTokenizer:
    """Maps characters to token ids and back; id 0 is the CTC blank.

    Args:
        alphabet: the characters in the order of their ids, which start at 1. A space, if
            wanted, is one of them.

    Raises:
        ConfigError: the alphabet is empty or names a character twice.
    """

    blank = 0

    def __init__(self, alphabet: str = ENGLISH) -> None:
        repeated = [c for c, n in Counter(alphabet).items() if n > 1]
        if not alphabet or repeated:
            raise ConfigError(
                f"alphabet {alphabet!r} must name each character once"
                + (f"; repeated: {''.join(repeated)!r}" if repeated else "")
            )
        self.alphabet = alphabet
        self._name(alphabet)

    def _name(self, symbols: Sequence[str]) -> None:
        self.symbols = symbols  # of the ids from 1 on
        self._ids = {symbol: i for i, symbol in enumerate(symbols, start=1)}

    def __len__(self) -> int:
        """Return the vocabulary size, blank included."""
        return len(self.symbols) + 1

    def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``, which is taken as it is (see :func:`normalise`).

        Raises:
            TextError: a character is not in the alphabet. Use :meth:`unknown` to look first.
        """
        try:
            return [self._ids[character] for character in text]
        except KeyError:
            unknown = "".join(sorted(self.unknown([text])))
            raise TextError(
                f"characters {unknown!r} of {text!r} are not in the alphabet {self.alphabet!r}; "
                "spell them out or extend the alphabet"
            ) from None

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of token ids; blanks give nothing. No repeats are collapsed.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        symbols = []
        for token in tokens:
            if not 0 <= token < len(self):
                raise ValueError(f"token {token} is outside the vocabulary of {len(self)}")
            if token != self.blank:
                symbols.append(self.symbols[token - 1])
        return "".join(symbols)

    def unknown(self, texts: Iterable[str]) -> Counter[str]:
        """Return how often each character outside the alphabet occurs in ``texts``."""
        counts = Counter(character for text in texts for character in text)
        return Counter({c: n for c, n in counts.items() if c not in self._ids})


def repeats(tokens: Sequence[int]) -> int:
    """Return how many tokens equal their predecessor: CTC needs a blank between such pairs."""
    return sum(map(operator.eq, tokens, tokens[1:]))
