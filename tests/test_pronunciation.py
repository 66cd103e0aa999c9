"""Pronunciation dictionaries and the tokens of phones."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from babble import babbling_model
from torch import Tensor

from asr.archive import PRONUNCIATIONS
from asr.bundle import save_bundle
from asr.decoding.config import DecoderConfig
from asr.errors import ConfigError, PronunciationError, TextError
from asr.letter_to_sound import LetterToSound
from asr.pronunciation import (
    PhoneTokenizer,
    Pronunciations,
    check_known,
    error_rates,
    parse_pronunciations,
    read_pronunciations,
)

CMUDICT = """\
;;; comments
the DH AH0
the(2) DH IY0
tear T EH1 R
tear(2) T IH1 R # what one sheds
o'clock AH0 K L AA1 K

THE DH AH1
"""


def write(folder: Path, text: str, name: str = "dictionary.txt") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["cmudict.dict", "cmudict.gz"])
def test_a_dictionary_has_variants_and_no_stress(name: str, tmp_path: Path) -> None:
    found = read_pronunciations(write(tmp_path, CMUDICT, name))
    assert found.words == {
        "THE": ["DH AH", "DH IY"],
        "TEAR": ["T EH R", "T IH R"],
        "O'CLOCK": ["AH K L AA K"],
    }
    assert found.phones == ("AA", "AH", "DH", "EH", "IH", "IY", "K", "L", "R", "T")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no word"),
        ("HELLO HH AH L OW\nWORLD\n", "line 2: 'WORLD' has no phones"),
        ("HELLO HH 1\n", "line 1: 'HELLO' has no phones"),
    ],
)
def test_a_broken_dictionary_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(PronunciationError, match=message) as error:
        read_pronunciations(path)
    assert str(path) in str(error.value)


def test_a_missing_or_binary_dictionary_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PronunciationError, match="no such file"):
        read_pronunciations(tmp_path / "none.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PronunciationError, match="no UTF-8 text"):
        read_pronunciations(tmp_path / "binary.txt")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(CMUDICT.encode())[:40])
    with pytest.raises(PronunciationError, match=r"cut\.gz: cannot read"):
        read_pronunciations(tmp_path / "cut.gz")


def test_words_that_a_dictionary_lacks_are_named(tmp_path: Path) -> None:
    known = Pronunciations({"THE": ("DH AH",)})
    check_known(known, ["THE THE", ""], "a.txt")
    with pytest.raises(PronunciationError, match=r"^a\.txt: lacks CAT, DOG; add these words"):
        check_known(known, ["THE CAT", "THE DOG THE CAT"], "a.txt")
    many = " ".join(f"W{i}" for i in range(14))
    with pytest.raises(PronunciationError, match=r"W9 and 4 others; add"):
        check_known(known, [many], "a.txt")
    assert known.first("THE THE") == ["DH AH"] * 2
    with pytest.raises(TextError, match="'CAT' is not in the pronunciation dictionary"):
        known.first("THE CAT")


def test_phones_have_ids_after_blank_and_gap() -> None:
    tokenizer = PhoneTokenizer(["AH", "DH"])
    assert len(tokenizer) == 4
    assert tokenizer.encode_words(["DH AH", "AH"]) == [3, 2, 1, 2]
    assert tokenizer.encode_words([]) == []
    assert tokenizer.decode([3, 2, 0, 1, 2]) == "DHAH AH"
    with pytest.raises(TextError, match="the phone 'ZH' is none of AH DH"):
        tokenizer.encode_words(["ZH"])


@pytest.mark.parametrize("phones", [[], ["A", "A"], ["A B"], [""], [3]])
def test_phones_need_names_of_their_own(phones: list[str]) -> None:
    with pytest.raises(ConfigError, match="phone"):
        PhoneTokenizer(phones)


def with_network() -> Pronunciations:
    torch.manual_seed(0)
    network = LetterToSound("'EHT", ("AH", "DH"), 8, 1).eval()
    words = {"THE": ["DH AH", "DH"], "'T": ["DH"]}
    return Pronunciations(words, ("AH", "DH"), network)


def test_a_network_pronounces_what_the_dictionary_lacks() -> None:
    dictionary = with_network()
    found = dictionary.covering(["HEET", "THE", "THÉ", "THE", "CAT"])
    assert list(found.words) == ["HEET", "THE"]  # the others have letters that it cannot read
    assert found.words["THE"] == ["DH AH", "DH"]
    assert dictionary.network is not None
    assert found.words["HEET"] == tuple(dictionary.network.pronounce(["HEET"]))
    alone = Pronunciations(dictionary.words).covering(["HEET", "THE"])
    assert list(alone.words) == ["THE"]
    assert alone.phones == ("AH", "DH")


def test_a_packed_dictionary_is_the_same(tmp_path: Path) -> None:
    for dictionary in (with_network(), Pronunciations(with_network().words)):
        dictionary.save(tmp_path / "packed.safetensors")
        again = read_pronunciations(tmp_path / "packed.safetensors")
        assert again.words == dictionary.words and again.phones == dictionary.phones
        assert again.packed() == dictionary.packed()
        assert bool(again.network) == bool(dictionary.network)
    with pytest.raises(PronunciationError, match="cannot write these pronunciations"):
        dictionary.save(tmp_path / "packed.safetensors" / "below a file")


def test_the_dictionary_of_a_model_is_read(tmp_path: Path) -> None:
    model = babbling_model()
    save_bundle(
        tmp_path / "has.asr", model, DecoderConfig(), "", pronunciations=with_network().packed()
    )
    assert read_pronunciations(tmp_path / "has.asr").packed() == with_network().packed()
    save_bundle(tmp_path / "bare.asr", model, DecoderConfig(), "")
    with pytest.raises(PronunciationError, match=r"bare\.asr: holds no pronunciations; give"):
        read_pronunciations(tmp_path / "bare.asr")
    content = bytearray((tmp_path / "has.asr").read_bytes())
    at = content.index(PRONUNCIATIONS.encode()) + len(PRONUNCIATIONS) + 20
    content[at : at + 20] = bytes(20)
    (tmp_path / "damaged.asr").write_bytes(content)
    with pytest.raises(PronunciationError, match=r"damaged\.asr: cannot read these pronunciations"):
        read_pronunciations(tmp_path / "damaged.asr")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format_version": 2}, "has format 2, this version reads up to 1; upgrade asr"),
        ({"phones": ["AH"]}, "not those of its settings"),
        ({"phones": ["AH", "AH"]}, "must name each phone once"),
        ({"hidden_size": 9}, "not those of its settings"),
        ({"hidden_size": 10**9}, "is no shape"),
        ({"num_layers": "1"}, "is no shape"),
        ({"phones": 3}, "not those of its settings"),
        ({"alphabet": "AA"}, "repeated: 'A'"),
        (None, "no dictionary; give a file of asr lm pronounce"),
    ],
)
def test_a_wrong_packed_dictionary_is_one_line(
    settings: dict[str, Any] | None, message: str
) -> None:
    content = with_network().packed()
    weights = safetensors.torch.load(content)
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    [name] = metadata
    metadata = {name: json.dumps(json.loads(metadata[name]) | settings)} if settings else None
    with pytest.raises(PronunciationError, match=message) as error:
        parse_pronunciations(safetensors.torch.save(weights, metadata), "it.safetensors")
    assert "\n" not in str(error.value) and "it.safetensors: " in str(error.value)


@pytest.mark.parametrize(
    "words",
    [
        *("{", "3", '["THE"]', '{"THE": []}', '{"THE": [""]}', '{"THE": [" "]}', '{"THE": "AH"}'),
        '{"THE": ["DH", "ZH"]}',
    ],
)
def test_packed_words_without_phones_are_one_line(words: str) -> None:
    tensor = torch.frombuffer(bytearray(words.encode()), dtype=torch.uint8)
    damaged = repacked(with_network().packed(), words=tensor)
    with pytest.raises(PronunciationError, match=r"^it: its words .* make it again$"):
        parse_pronunciations(damaged, "it")


def repacked(content: bytes, **tensors: Tensor) -> bytes:
    """Return a packed dictionary with other tensors."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return safetensors.torch.save(safetensors.torch.load(content) | tensors, header["__metadata__"])


def test_a_damaged_packed_dictionary_is_one_line() -> None:
    content = with_network().packed()
    for damaged in (content[:-9], content[:60], content[:8] + b"{}" + content[10:]):
        with pytest.raises(PronunciationError, match="it: cannot read these pronunciations"):
            parse_pronunciations(damaged, "it")
    bias = torch.full_like(safetensors.torch.load(content)["output.bias"], float("nan"))
    with pytest.raises(PronunciationError, match="weights are not finite"):
        parse_pronunciations(repacked(content, **{"output.bias": bias}), "it")


def test_error_rates_are_those_of_the_closest_pronunciation() -> None:
    network = with_network().network
    assert network is not None
    [way] = network.pronounce(["THE"])
    wrong = f"{way} {way}"
    assert error_rates(network, {"THE": (wrong, way), "CAT": ("DH",)}) == (0.0, 0.0)
    assert error_rates(network, {"THE": (wrong,)}) == (0.5, 1.0)
    assert error_rates(network, {"CAT": ("DH",)}) == (0.0, 0.0)
