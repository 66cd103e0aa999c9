"""How words sound: pronunciation dictionaries, and the phones that a second output writes.

English spelling tells only roughly how a word sounds. A few hours of speech show a network too
few words to learn it; a dictionary lists a hundred thousand. With an output of phones beside that
of characters, a search through the words of a language model compares how they sound.

References: Weide 1998, "The CMU Pronouncing Dictionary"; Miao et al. 2015, "EESEN: End-to-End
Speech Recognition Using Deep RNN Models and WFST-Based Decoding" (phones and a lexicon with CTC).
"""

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from rapidfuzz.distance import Levenshtein
from safetensors import SafetensorError
from torch import Tensor

from asr.archive import LARGE, PRONUNCIATIONS, read_part
from asr.atomic import whole_file
from asr.errors import ConfigError, PronunciationError, TextError, reason_of
from asr.letter_to_sound import LetterToSound, Pronunciation
from asr.quantisation import quantise, restore
from asr.text import CharTokenizer, normalise

GAP = " "  # between words
GAP_ID = 1
STRESS = "0123456789"
MOST_NAMED = 10  # words that a message names
_VARIANT = re.compile(r"\(\d+\)$")  # of CMUdict: read, read(2)
_COMMENT = re.compile(r"#|;;;")
GZIP = b"\x1f\x8b"
METADATA, WORDS = "asr_pronunciations", "words"  # of a packed dictionary
FORMAT_VERSION = 1
LARGEST = 10_000  # number of units or layers, so that a damaged file cannot ask for any


class PhoneTokenizer(CharTokenizer):
    """Maps phones to token ids and back; id 0 is the CTC blank, id 1 the gap between words.

    Args:
        phones: names of the phones in the order of their ids, which start at 2.

    Raises:
        ConfigError: there are none; one is empty, holds a space or is named twice.
    """

    def __init__(self, phones: Sequence[str]) -> None:
        super().__init__(GAP)
        for phone in phones:
            if not isinstance(phone, str) or not phone or GAP in phone:
                raise ConfigError(f"{phone!r} is no name of a phone")
        if not phones or len(set(phones)) < len(phones):
            raise ConfigError(f"phones {', '.join(phones)!r} must name each phone once")
        self.phones = tuple(phones)
        self._name((GAP, *phones))

    def encode_words(self, words: Iterable[Pronunciation]) -> list[int]:
        """Return the token ids of words one after another, with a gap between two of them.

        Raises:
            TextError: a phone is unknown.
        """
        tokens: list[int] = []
        for word in words:
            if tokens:
                tokens.append(GAP_ID)
            tokens += self.encode_word(word)
        return tokens

    def encode_word(self, word: Pronunciation) -> list[int]:
        """Return the token ids of one word; see :meth:`encode_words`."""
        try:
            return list(map(self._ids.__getitem__, word.split()))
        except KeyError as error:
            raise TextError(
                f"the phone {error} is none of {' '.join(self.phones)}; use one dictionary for all"
            ) from None


class Pronunciations:
    """A pronunciation dictionary, and a network that pronounces what it lacks.

    Args:
        words: the pronunciations of each word, the most usual one first.
        phones: names of all phones; those of the words, sorted, if ``None``.
        network: for words that the dictionary lacks; without one these stay unknown.

    Attributes:
        words, phones, network: the same.
    """

    def __init__(
        self,
        words: Mapping[str, Sequence[Pronunciation]],
        phones: Sequence[str] | None = None,
        network: LetterToSound | None = None,
    ) -> None:
        self.words = words
        if phones is None:
            phones = sorted(_phones_of(words))
        self.phones = tuple(phones)
        self.network = network

    def first(self, text: str) -> list[Pronunciation]:
        """Return the first pronunciation of each word of a normalised text.

        Raises:
            TextError: a word is not in the dictionary. Use :meth:`missing` to look first.
        """
        try:
            return [self.words[word][0] for word in text.split()]
        except KeyError as error:
            raise TextError(f"the word {error} is not in the pronunciation dictionary") from None

    def missing(self, texts: Iterable[str]) -> list[str]:
        """Return the words of normalised texts that are not in the dictionary, each once."""
        return list(dict.fromkeys(w for text in texts for w in text.split() if w not in self.words))

    def covering(self, words: Iterable[str]) -> "Pronunciations":
        """Return the dictionary of these words, as far as they can be pronounced."""
        words = list(dict.fromkeys(words))
        guessed: dict[str, Sequence[Pronunciation]] = {}
        if self.network:
            known = frozenset(self.network.tokenizer.alphabet)
            missing = [word for word in words if word not in self.words and known.issuperset(word)]
            ways = self.network.pronounce(missing)
            guessed = {word: (way,) for word, way in zip(missing, ways, strict=True)}
        every = {word: self.words.get(word) or guessed.get(word, ()) for word in words}
        found = {word: ways for word, ways in every.items() if ways}
        return Pronunciations(found, self.phones, self.network)

    def packed(self) -> bytes:
        """Return the content of one safetensors file: words as JSON, and the network's weights.

        The same dictionary and network give the same bytes.
        """
        settings: dict[str, Any] = {"format_version": FORMAT_VERSION, "phones": self.phones}
        words = json.dumps(dict(self.words), separators=(",", ":"))
        weights: dict[str, Tensor] = {}
        if self.network:
            lstm = self.network.recurrent
            settings["alphabet"] = self.network.tokenizer.alphabet
            settings |= {"hidden_size": lstm.hidden_size, "num_layers": lstm.num_layers}
            weights = quantise(self.network.state_dict())
        weights[WORDS] = torch.frombuffer(bytearray(words.encode()), dtype=torch.uint8)
        return safetensors.torch.save(weights, {METADATA: json.dumps(settings)})

    def save(self, path: str | Path) -> None:
        """Write that file, whole or not at all.

        Raises:
            PronunciationError: it cannot be written.
        """
        try:
            with whole_file(path) as partial:
                partial.write_bytes(self.packed())
        except OSError as error:
            raise PronunciationError(
                f"{path}: cannot write these pronunciations: {reason_of(error)}"
            ) from error


def read_pronunciations(path: str | Path) -> Pronunciations:
    """Read a dictionary: a text such as CMUdict or LibriSpeech's lexicon, or a packed one.

    Each line of a text holds a word and its phones, ``HELLO HH AH0 L OW1``. Marks of stress are
    dropped, and what follows ``#`` or ``;;;``; further lines of a word, also as ``hello(2)``, are
    variants.

    Args:
        path: UTF-8 text, plain or compressed by gzip; a file of :meth:`Pronunciations.save`; or a
            model bundle (``.asr``) that holds one.

    Raises:
        PronunciationError: the file cannot be read, holds no word, or a word without phones; its
            network is not what its settings say.
    """
    path = Path(path)
    try:
        content = read_part(path, PRONUNCIATIONS)
    except OSError as error:
        raise _unreadable(path, error) from error
    if content is None:
        raise PronunciationError(f"{path}: holds no pronunciations; give a dictionary")
    return parse_pronunciations(content, path)


def parse_pronunciations(content: bytes, path: str | Path) -> Pronunciations:
    """Read a dictionary from the content of its file, see :func:`read_pronunciations`."""
    if content[8:9] == b"{":  # a text has a word there, or the phones of one
        return _parse_packed(content, path)
    try:
        if content.startswith(GZIP):
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(LARGE)
                if file.read(1):
                    raise EOFError("too large when inflated")
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error
    words = _parse_words(text, path)
    if not words:
        raise PronunciationError(f"{path}: holds no word; give one word and its phones a line")
    return Pronunciations(words)


def _unreadable(path: str | Path, error: Exception) -> PronunciationError:
    return PronunciationError(f"{path}: cannot read these pronunciations: {reason_of(error)}")


def _parse_words(text: str, path: str | Path) -> dict[str, list[Pronunciation]]:
    words: dict[str, dict[Pronunciation, None]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        fields = _COMMENT.split(line)[0].split()
        if not fields:
            continue
        word = normalise(_VARIANT.sub("", fields[0]))
        phones = [phone.rstrip(STRESS) for phone in fields[1:]]
        if not all(phones) or not phones:
            raise PronunciationError(
                f"{path}: line {number}: {fields[0]!r} has no phones; write WORD PHONE ..."
            )
        if word and GAP not in word:  # CMUdict names some marks, too
            words.setdefault(word, {})[" ".join(phones)] = None
    return {word: list(ways) for word, ways in words.items()}


def _parse_packed(content: bytes, path: str | Path) -> Pronunciations:
    try:
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, KeyError, ValueError) as error:  # KeyError: a type unknown to torch
        raise _unreadable(path, error) from error
    text = (header.get("__metadata__") or {}).get(METADATA)
    if text is None:
        raise PronunciationError(f"{path}: no dictionary; give a file of asr lm pronounce")
    try:
        settings = json.loads(text)
        version = settings["format_version"]
        if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
            raise PronunciationError(
                f"{path}: has format {version!r}, this version reads up to {FORMAT_VERSION}; "
                "upgrade asr"
            )
        phones = PhoneTokenizer(settings["phones"]).phones
        words = json.loads(tensors.pop(WORDS).numpy().tobytes())
        network = _network(settings, restore(tensors)) if tensors else None
        said = [*chain.from_iterable(words.values())]
        lists = set(map(type, words.values())) <= {list}
        silent = not all(words.values()) or not all(said) or any(map(str.isspace, said))
        if not lists or silent or not _phones_of(words) <= set(phones):
            raise ConfigError("a word has no phones, or others")
    except (AttributeError, ConfigError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = f": {error}" if isinstance(error, ConfigError) else ""  # others' are long
        raise PronunciationError(
            f"{path}: its words or weights are not those of its settings{reason}; make it again"
        ) from error
    return Pronunciations(words, phones, network)


def _network(settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> LetterToSound:
    shape = {name: settings[name] for name in ("hidden_size", "num_layers")}
    if any(type(size) is not int or size > LARGEST for size in shape.values()):
        raise ConfigError(f"{shape} is no shape")
    with torch.device("meta"):  # shapes alone: whatever the settings say, nothing is allocated
        network = LetterToSound(settings["alphabet"], settings["phones"], **shape)
    network.load_state_dict({name: x.float() for name, x in weights.items()}, assign=True)
    if not all(tensor.isfinite().all() for tensor in network.parameters()):
        raise ConfigError("weights are not finite")
    return network.eval()


def _phones_of(words: Mapping[str, Sequence[Pronunciation]]) -> set[str]:
    return set(" ".join(chain.from_iterable(words.values())).split())


def error_rates(
    network: LetterToSound, words: Mapping[str, Sequence[Pronunciation]]
) -> tuple[float, float]:
    """Return the shares of phones and of words that a network gets wrong.

    The phones of a word are compared with its closest pronunciation.
    """
    known = frozenset(network.tokenizer.alphabet)
    readable = [word for word in words if known.issuperset(word)]
    errors = wrong = phones = 0
    for word, way in zip(readable, network.pronounce(readable), strict=True):
        distance, length = min(
            (Levenshtein.distance(way.split(), said.split()), len(said.split()))
            for said in words[word]
        )
        errors, phones, wrong = errors + distance, phones + length, wrong + (distance > 0)
    return errors / max(phones, 1), wrong / max(len(readable), 1)


def check_known(pronunciations: Pronunciations, texts: Iterable[str], path: str | Path) -> None:
    """Refuse texts with words that a dictionary lacks.

    Raises:
        PronunciationError: it names some of them.
    """
    if missing := pronunciations.missing(texts):
        named = ", ".join(missing[:MOST_NAMED])
        more = f" and {len(missing) - MOST_NAMED} others" if len(missing) > MOST_NAMED else ""
        raise PronunciationError(f"{path}: lacks {named}{more}; add these words to it")


def check_phones(
    pronunciations: Pronunciations, tokenizer: PhoneTokenizer, path: str | Path
) -> None:
    """Refuse a dictionary in other phones than those of a model.

    Raises:
        PronunciationError: it names some of them.
    """
    if strange := [phone for phone in pronunciations.phones if phone not in tokenizer.phones]:
        named = ", ".join(strange[:MOST_NAMED])
        raise PronunciationError(
            f"{path}: has phones that are none of the model's, such as {named}; use the "
            "dictionary that it was trained with"
        )
