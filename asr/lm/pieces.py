"""Pieces of words, which a language model may read as one symbol each.

A model that reads letters spends most of its work on spelling. Frequent words and parts of words
as symbols of their own make a text about four times shorter, and any word can still be
written. The pieces are learnt by merging the most frequent pair of neighbours again and again.

Reference: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"
(byte-pair encoding).
"""

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from asr.errors import ConfigError
from asr.text import ENGLISH, CharTokenizer

SPACE = " "
REMEMBERED = 200_000  # words whose pieces are kept, which bounds the memory of a server

Pair = tuple[str, str]


class PieceTokenizer(CharTokenizer):
    """Maps characters and pieces to token ids and back; id 0 is the blank, which is no text.

    A piece that begins a word includes the space in front. Each word is read as the longest
    piece that it begins with, then the longest that follows, and so on.

    Args:
        alphabet: the characters in the order of their ids, a space among them.
        pieces: strings of two or more of them, with a space at most in front. Their ids follow.

    Raises:
        ConfigError: the alphabet has no space or names a character twice; a piece is none, or is
            named twice.
    """

    def __init__(self, alphabet: str = ENGLISH, pieces: Sequence[str] = ()) -> None:
        super().__init__(alphabet)
        if SPACE not in alphabet:
            raise ConfigError(f"alphabet {alphabet!r} has no space, which pieces of words need")
        characters = frozenset(alphabet)
        for piece in pieces:
            if len(piece) < 2 or SPACE in piece[1:] or not characters.issuperset(piece):
                raise ConfigError(f"piece {piece!r} is no part of a word in {alphabet!r}")
        if len(set(pieces)) < len(pieces):
            raise ConfigError("a piece is named twice")
        self._name((*alphabet, *pieces))
        self._longest = max(map(len, self.symbols))
        self._words: dict[str, list[int]] = {}  # some that were read before

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, none of an empty one.

        Raises:
            TextError: a character is not in the alphabet.
        """
        if not text:
            return []
        return [token for word in text.split(SPACE) for token in self._read(word)]

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of token ids, without the space that its first word brings along.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        return super().decode(tokens).removeprefix(SPACE)

    def _read(self, word: str) -> list[int]:
        tokens = self._words.get(word)  # once: another thread may clear them
        if tokens is None:
            if len(self._words) >= REMEMBERED:
                self._words.clear()
            super().encode(word)  # tells unknown characters
            rest, tokens = SPACE + word, []
            while rest:
                length = next(n for n in range(self._longest, 0, -1) if rest[:n] in self._ids)
                tokens.append(self._ids[rest[:length]])
                rest = rest[length:]
            self._words[word] = tokens
        return tokens


def learn_pieces(words: Mapping[str, int], number: int) -> list[str]:
    """Return the pieces that save the most symbols, the most frequent ones first.

    Args:
        words: how often each word occurs.
        number: of pieces; fewer are returned if the words have no more.
    """
    spelled = [[SPACE, *word] for word in words]
    counts = list(words.values())
    totals: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for i, symbols in enumerate(spelled):
        for pair in itertools.pairwise(symbols):
            totals[pair] += counts[i]
            places[pair].add(i)
    heap = [(-total, pair) for pair, total in totals.items()]
    heapq.heapify(heap)
    pieces: dict[str, None] = {}  # two pairs may make the same piece
    while heap and len(pieces) < number:
        total, pair = heapq.heappop(heap)
        if -total != totals[pair]:  # changed since it was put there, and stands there anew
            continue
        pieces["".join(pair)] = None
        changed: set[Pair] = set()
        for i in places.pop(pair):
            for old in itertools.pairwise(spelled[i]):
                totals[old] -= counts[i]
                places[old].discard(i)
                changed.add(old)
            spelled[i] = _merge(spelled[i], pair)
            for new in itertools.pairwise(spelled[i]):
                totals[new] += counts[i]
                places[new].add(i)
                changed.add(new)
        for other in changed:
            if totals[other] > 0:
                heapq.heappush(heap, (-totals[other], other))
    return list(pieces)


def _merge(symbols: list[str], pair: Pair) -> list[str]:
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged
