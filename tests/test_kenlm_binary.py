"""KenLM's binary files against KenLM's own reading of the same model as text."""

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary
from typer.testing import CliRunner, Result

from asr.cli.main import app
from asr.data.manifest import read_manifest
from asr.errors import ConfigError, LanguageModelError
from asr.lm.arpa import write_arpa
from asr.lm.kenlm_binary import is_binary, read_vocabulary, write_binary
from asr.lm.ngram import FloatArray, NgramModel, encode_text, estimate
from asr.lm.perplexity import measure_perplexity
from asr.lm.sentences import read_sentences
from asr.lm.word_model import WordModel

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
Sentences = list[list[str]]


def babble(seed: int, count: int, vocabulary: int = 400) -> Sentences:
    """Return sentences of words of 1 to 20 letters, each drawn after the one before."""
    chance = random.Random(0)
    words = ["".join(chance.choices("ABCDEFGH'", k=1 + i % 20)) for i in range(vocabulary)]
    chance = random.Random(seed)
    text = []
    for _ in range(count):
        sentence, place = [], 0
        for _ in range(chance.randint(1, 12)):
            place = int((7 * place + vocabulary * chance.random() ** 3) % vocabulary)
            sentence.append(words[place])
        text.append(sentence)
    return text


def in_steps(values: FloatArray, steps: int) -> FloatArray:
    """Return the nearest of so many equal steps from the least to the greatest value."""
    if not len(values) or np.ptp(values) == 0:
        return values
    step = np.ptp(values) / (steps - 1)
    return values.min() + step * np.round((values - values.min()) / step)


def rounded(model: NgramModel) -> NgramModel:
    """Return the model that the binary file holds."""
    orders = [model.orders[0]]
    for order in model.orders[1:]:
        backoffs = order.log10_backoff.copy()
        backoffs[backoffs != 0] = in_steps(backoffs[backoffs != 0], 254)
        orders.append(
            replace(order, log10_prob=in_steps(order.log10_prob, 255), log10_backoff=backoffs)
        )
    return replace(model, orders=tuple(orders))


def scores(path: Path, text: Sentences, words: list[str]) -> list[float]:
    kenlm = KenLM(str(path), Dictionary(words))
    result = []
    for sentence in text:
        state = kenlm.start(False)
        for word in sentence:
            state, score = kenlm.score(state, words.index(word))
            result.append(score)
        result.append(kenlm.finish(state)[1])
    return result


@pytest.mark.parametrize(
    ("order", "prune"), [(2, [0]), (3, [0]), (3, [0, 0, 1]), (4, [0, 1]), (6, [0]), (6, [0, 0, 1])]
)
def test_kenlm_finds_every_n_gram(tmp_path: Path, order: int, prune: list[int]) -> None:
    model = estimate(encode_text(babble(1, 400), 300), order, prune)
    write_binary(tmp_path / "m.klm", model)
    write_arpa(tmp_path / "m.arpa", rounded(model))
    words = list(model.words)
    text = [
        [word if word in words else "<unk>" for word in sentence] for sentence in babble(2, 150)
    ]
    expected = scores(tmp_path / "m.arpa", text, words)
    assert scores(tmp_path / "m.klm", text, words) == pytest.approx(expected, abs=1e-4)
    assert len({round(score, 3) for score in expected}) > 200


def test_steps_are_small(tmp_path: Path) -> None:
    model = estimate(encode_text(babble(3, 400)), 3)
    write_binary(tmp_path / "m.klm", model)
    write_arpa(tmp_path / "m.arpa", model)
    words = list(model.words)
    text = babble(4, 150)
    exact = np.array(scores(tmp_path / "m.arpa", text, words))
    stored = np.array(scores(tmp_path / "m.klm", text, words))
    assert np.abs(stored - exact).max() < 0.03
    assert abs((stored - exact).mean()) < 0.002


def test_a_model_whose_longest_n_grams_are_all_pruned(tmp_path: Path) -> None:
    text = babble(5, 50)
    model = estimate(encode_text(text), 3, [0, 0, 10_000])
    assert len(model.orders[2].word) == 0
    write_binary(tmp_path / "m.klm", model)
    write_arpa(tmp_path / "m.arpa", rounded(model))
    words = list(model.words)
    expected = scores(tmp_path / "m.arpa", text, words)
    assert scores(tmp_path / "m.klm", text, words) == pytest.approx(expected, abs=1e-4)


def test_pieces_of_a_large_model_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = estimate(encode_text(babble(6, 100)), 3)
    written: list[int] = []
    write_binary(tmp_path / "a.klm", model, written.append)
    assert sum(written) == sum(len(order.word) for order in model.orders)
    monkeypatch.setattr("asr.lm.kenlm_binary._CHUNK", 64)
    write_binary(tmp_path / "b.klm", model, written.append)
    assert (tmp_path / "a.klm").read_bytes() == (tmp_path / "b.klm").read_bytes()
    assert len(written) > 8


def test_words_are_those_of_the_text_file(tmp_path: Path) -> None:
    model = estimate(encode_text(babble(7, 200)), 3)
    write_binary(tmp_path / "m.klm", model)
    write_arpa(tmp_path / "m.arpa.gz", model)
    assert is_binary(tmp_path / "m.klm") and not is_binary(tmp_path / "m.arpa.gz")
    assert sorted(read_vocabulary(tmp_path / "m.klm")) == sorted(model.words)
    binary, text = WordModel(tmp_path / "m.klm"), WordModel(tmp_path / "m.arpa.gz")
    assert binary.words == pytest.approx(text.words, abs=1e-5)
    assert binary.ids["<unk>"] == 0 and binary.ids.keys() == text.ids.keys()
    sentences = babble(8, 50)
    measured = measure_perplexity(tmp_path / "m.klm", sentences)
    expected = measure_perplexity(tmp_path / "m.arpa.gz", sentences)
    assert measured.unknown == expected.unknown
    assert measured.including_unknown == pytest.approx(expected.including_unknown, rel=0.01)


def test_files_that_are_cut_or_lack_their_words(tmp_path: Path) -> None:
    path = tmp_path / "m.klm"
    write_binary(path, estimate(encode_text(babble(9, 50)), 2))
    content = path.read_bytes()
    start = content.rindex(b"<unk>\0")
    for cut in (content[:60], content[:120], content[: start // 2], content[:start], content[:-9]):
        path.write_bytes(cut)
        with pytest.raises(LanguageModelError, match=r"m.klm: does not end with its words; build"):
            WordModel(path)
    path.write_bytes(content[: start - 400] + content[start:])
    with pytest.raises(
        LanguageModelError, match=r"m.klm: KenLM cannot read this model: .*(size|wrong)"
    ):
        WordModel(path)
    path.write_bytes(content.replace(b"version 5", b"version 4"))
    with pytest.raises(LanguageModelError, match=r"m.klm: KenLM cannot read this model: .*ersion"):
        WordModel(path)
    with pytest.raises(LanguageModelError, match="cannot read"):
        read_vocabulary(tmp_path / "none.klm")


def test_another_alphabet_and_single_words_are_refused(tmp_path: Path) -> None:
    text = [[word.lower() for word in sentence] for sentence in babble(10, 50)]
    alphabet = "abcdefgh' "
    write_binary(tmp_path / "small.klm", estimate(encode_text(text, alphabet=alphabet), 2))
    assert WordModel(tmp_path / "small.klm", alphabet).words
    with pytest.raises(LanguageModelError, match="most of its words are not in the alphabet"):
        WordModel(tmp_path / "small.klm")
    (tmp_path / "old.klm").write_text("kept")
    with pytest.raises(ConfigError, match="no model of order 1; write an ARPA file"):
        write_binary(tmp_path / "old.klm", estimate(encode_text(babble(11, 20)), 1))
    assert (tmp_path / "old.klm").read_text() == "kept"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["lm", *map(str, arguments)])


def test_command_builds_and_measures(tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("\n".join(" ".join(sentence) for sentence in babble(12, 100)))
    result = run("build", text, "-o", tmp_path / "m.klm", "--prune", 0, 0, 1)
    assert result.exit_code == 0, result.stderr
    expected = tmp_path / "expected.klm"
    write_binary(expected, estimate(encode_text(read_sentences(text)), 3, [0, 0, 1]))
    assert (tmp_path / "m.klm").read_bytes() == expected.read_bytes()
    result = run("perplexity", tmp_path / "m.klm", text)
    assert result.exit_code == 0 and "perplexity with unknown words" in result.stdout
    result = run("build", tmp_path / "none.txt", "-o", tmp_path / "one.klm", "--order", 1)
    assert result.exit_code == 1 and "write an ARPA file" in result.stderr


def test_transcribing_gives_the_same_text(tmp_path: Path) -> None:
    manifest = next(SAMPLES.glob("*.jsonl"))
    others = [u.text.split() for u in read_manifest(manifest) if u.audio.name != "river.wav"]
    model = estimate(encode_text(others), 2)
    write_binary(tmp_path / "m.klm", model)
    write_arpa(tmp_path / "m.arpa", model)
    command = [sys.executable, "-m", "asr", "transcribe", str(SAMPLES / "river.wav"), "--lm"]
    texts = [
        subprocess.run([*command, str(tmp_path / name)], capture_output=True, text=True, check=True)
        for name in ("m.klm", "m.arpa")
    ]
    assert texts[0].stdout == texts[1].stdout != ""
    assert set(texts[0].stdout.split()) <= {word for words in others for word in words}
