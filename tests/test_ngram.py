"""N-gram models against the formulae, probability mass, and KenLM's reading of them."""

import gzip
import itertools
import json
import lzma
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from asr.cli.main import app
from asr.data.manifest import Utterance, write_manifest
from asr.errors import AsrError, ConfigError, LanguageModelError, ManifestError, TextError
from asr.lm.arpa import read_arpa_head, write_arpa
from asr.lm.ngram import FALLBACK_DISCOUNTS, encode_text, estimate
from asr.lm.perplexity import measure_perplexity
from asr.lm.sentences import read_sentences
from asr.text import ENGLISH

Ngram = tuple[str, ...]
Sentences = list[list[str]]

sentences = st.lists(
    st.lists(st.sampled_from("ABCDE"), max_size=8), min_size=1, max_size=25
).filter(any)
few = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


# Two independent readings of a model, both slow: the formulae, and the file.


class Oracle:
    """Interpolated modified Kneser-Ney smoothing as the article writes it, with dictionaries."""

    def __init__(self, text: Sentences, order: int, thresholds: Sequence[int]) -> None:
        self.words = {word for sentence in text for word in sentence} | {"<unk>", "</s>"}
        raw: list[Counter[Ngram]] = [Counter() for _ in range(order + 1)]
        for sentence in text:
            padded = ("<s>", *sentence, "</s>")
            for n in range(1, order + 1):
                raw[n].update(padded[i : i + n] for i in range(len(padded) - n + 1))
        self.counts: list[dict[Ngram, int]] = [{} for _ in range(order + 1)]
        self.discounts: list[tuple[float, ...]] = [()]
        self.kept: set[Ngram] = set()
        for n in range(1, order + 1):
            for ngram, count in raw[n].items():
                if n < order and ngram[0] != "<s>":
                    count = len({longer[0] for longer in raw[n + 1] if longer[1:] == ngram})
                if ngram != ("<s>",):
                    self.counts[n][ngram] = count
                if n == 1 or raw[n][ngram] > thresholds[n - 1]:
                    self.kept.add(ngram)
            t = Counter(self.counts[n].values())
            self.discounts.append(FALLBACK_DISCOUNTS)
            if t[1] and t[2] and t[3]:
                y = t[1] / (t[1] + 2 * t[2])
                amounts = tuple(k - (k + 1) * y * t[k + 1] / t[k] for k in (1, 2, 3))
                if min(amounts) > 0:
                    self.discounts[n] = amounts

    def discount(self, n: int, count: int) -> float:
        return self.discounts[n][min(count, 3) - 1]

    def prob(self, context: Ngram, word: str) -> float:
        n = len(context) + 1
        following = {g: c for g, c in self.counts[n].items() if g[:-1] == context}
        lower = self.prob(context[1:], word) if context else 1 / len(self.words)
        if not following:
            return lower
        freed = sum(self.discount(n, c) if g in self.kept else c for g, c in following.items())
        share = 0.0
        if (ngram := (*context, word)) in following and ngram in self.kept:
            share = following[ngram] - self.discount(n, following[ngram])
        return (share + freed * lower) / sum(following.values())


class Arpa:
    """An ARPA file, parsed and queried as its manual says."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        head, *sections = re.split(r"\\\d-grams:\n", text)
        self.entries: dict[Ngram, tuple[float, float]] = {}
        for n, section in enumerate(sections, start=1):
            lines = [line for line in section.split("\n") if line and line != "\\end\\"]
            assert f"ngram {n}={len(lines)}\n" in head
            for line in lines:
                prob, ngram, *backoff = line.split("\t")
                words = tuple(ngram.split(" "))
                assert len(words) == n
                self.entries[words] = float(prob), float(backoff[0]) if backoff else 0.0
        self.order = len(sections)
        self.words = [words[0] for words in self.entries if len(words) == 1]

    def log10_prob(self, context: Ngram, word: str) -> float:
        if (ngram := (*context, word)) in self.entries:
            return self.entries[ngram][0]
        return self.entries.get(context, (0.0, 0.0))[1] + self.log10_prob(context[1:], word)

    def contexts(self) -> set[Ngram]:
        known = {words for words in self.entries if len(words) < self.order}
        return {(), ("<unk>",) * (self.order - 1)} | {c for c in known if c[-1] != "</s>"}

    def score(self, sentence: Sequence[str]) -> list[float]:
        padded = ["<s>", *sentence, "</s>"]
        padded = [word if (word,) in self.entries else "<unk>" for word in padded]
        return [
            self.log10_prob(tuple(padded[max(0, i - self.order + 1) : i]), padded[i])
            for i in range(1, len(padded))
        ]


def build(
    path: Path, text: Sentences, order: int, prune: Sequence[int] = (0,), alphabet: str = ENGLISH
) -> Path:
    write_arpa(path, estimate(encode_text(text, alphabet=alphabet), order, prune))
    return path


def babble(seed: int, count: int, words: str = "ABCDEFGH") -> Sentences:
    """Return sentences in which the next word depends on the last two."""
    chance = random.Random(seed)
    text = []
    for _ in range(count):
        sentence = chance.sample(words, 2)
        while chance.random() < 0.9:
            last, before = ord(sentence[-1]), ord(sentence[-2])
            weights = [(1 + i * last % 5 + i * before % 7) ** -2 for i in range(len(words))]
            sentence += chance.choices(words, weights)
        text.append(sentence)
    return text


def test_discounts_and_probabilities_worked_out_by_hand(tmp_path: Path) -> None:
    # A, B, C once, D twice, E three times, F four times, each a sentence of its own.
    text = [[word] for word in "ABCDDEEEFFFF"]
    model = estimate(encode_text(text), order=2)
    # Bigrams <s>X and X</s>: t1 = 6, t2 = t3 = t4 = 2, so Y = 6/(6 + 2*2) = 0.6 and
    # D1 = 1 - 2Y*2/6 = 0.6, D2 = 2 - 3Y*2/2 = 0.2, D3+ = 3 - 4Y*2/2 = 0.6.
    assert model.discounts[1] == pytest.approx((0.6, 0.2, 0.6))
    # Words: before each of the six stands <s> alone, before </s> stand six: t2 = 0 tells nothing.
    assert model.discounts[0] == FALLBACK_DISCOUNTS == (0.5, 1.0, 1.5)
    assert model.fallbacks == (1,)
    write_arpa(tmp_path / "m.arpa", model)
    arpa = Arpa(tmp_path / "m.arpa")
    # Left for all eight words (six, </s>, <unk>): (6*0.5 + 1.5)/12 = 0.375, an eighth each.
    unknown = 0.375 / 8
    expected = {
        ("<unk>",): unknown,
        ("A",): 0.5 / 12 + unknown,
        ("</s>",): (6 - 1.5) / 12 + unknown,
        # After <s>, 12 times: left are (3*0.6 + 0.2 + 0.6 + 0.6)/12 = 3.2/12.
        ("<s>", "A"): 0.4 / 12 + 3.2 / 12 * (0.5 / 12 + unknown),
        ("<s>", "D"): 1.8 / 12 + 3.2 / 12 * (0.5 / 12 + unknown),
        ("<s>", "F"): 3.4 / 12 + 3.2 / 12 * (0.5 / 12 + unknown),
        ("A", "</s>"): 0.4 + 0.6 * (4.5 / 12 + unknown),
        ("F", "</s>"): 3.4 / 4 + 0.6 / 4 * (4.5 / 12 + unknown),
    }
    for ngram, prob in expected.items():
        assert 10 ** arpa.entries[ngram][0] == pytest.approx(prob, rel=1e-5)
    assert 10 ** arpa.entries["<s>",][1] == pytest.approx(3.2 / 12, rel=1e-5)
    assert 10 ** arpa.entries["F",][1] == pytest.approx(0.6 / 4, rel=1e-5)


@few
@given(text=sentences, order=st.integers(1, 4), cuts=st.lists(st.integers(0, 2), max_size=3))
def test_every_probability_is_that_of_the_formulae(
    tmp_path: Path, text: Sentences, order: int, cuts: list[int]
) -> None:
    prune = [0, *sorted(cuts)][:order]
    arpa = Arpa(build(tmp_path / "m.arpa", text, order, prune))
    oracle = Oracle(text, order, prune + prune[-1:] * order)
    assert {ngram for ngram in arpa.entries if ngram != ("<unk>",)} == oracle.kept
    for context in arpa.contexts():
        for word in oracle.words:
            prob = 10 ** arpa.log10_prob(context, word)
            assert prob == pytest.approx(oracle.prob(context, word), rel=1e-5)


def test_formulae_on_text_large_enough_for_its_own_discounts(tmp_path: Path) -> None:
    text = babble(seed=1, count=60)
    model = estimate(encode_text(text), order=3, prune=(0, 0, 1))
    assert 3 not in model.fallbacks
    write_arpa(tmp_path / "m.arpa", model)
    arpa, oracle = Arpa(tmp_path / "m.arpa"), Oracle(text, 3, (0, 0, 1))
    assert model.discounts[2] == pytest.approx(oracle.discounts[3])
    for context, word in itertools.product(arpa.contexts(), oracle.words):
        prob = 10 ** arpa.log10_prob(context, word)
        assert prob == pytest.approx(oracle.prob(context, word), rel=1e-5)


@pytest.mark.parametrize("prune", [(0,), (0, 1), (0, 0, 2)])
@pytest.mark.parametrize("vocabulary", [None, 5, {"A", "B", "NEVER"}])
def test_every_context_sums_to_one(
    tmp_path: Path, prune: Sequence[int], vocabulary: int | set[str] | None
) -> None:
    text = encode_text(babble(seed=2, count=200), vocabulary)
    write_arpa(tmp_path / "m.arpa", estimate(text, 4, prune))
    arpa = Arpa(tmp_path / "m.arpa")
    for context in arpa.contexts():
        mass = sum(10 ** arpa.log10_prob(context, word) for word in arpa.words)
        assert mass == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("order", "prune"), [(2, [0]), (3, [0, 0, 1]), (6, [0]), (6, [0, 1, 2])])
def test_kenlm_reads_the_same_scores(tmp_path: Path, order: int, prune: list[int]) -> None:
    path = build(tmp_path / "m.arpa.gz", babble(seed=3, count=200), order, prune)
    words = [*"ABCDEFGH", "<unk>"]
    kenlm, arpa = KenLM(str(path), Dictionary(words)), Arpa(path)
    for sentence in babble(seed=4, count=30, words="ABCDEFG?"):
        state, scores = kenlm.start(False), []
        for word in sentence:
            state, score = kenlm.score(state, words.index("<unk>" if word == "?" else word))
            scores.append(score)
        scores.append(kenlm.finish(state)[1])
        assert scores == pytest.approx(arpa.score(sentence), abs=1e-4)


def test_words_become_unknown_where_the_vocabulary_or_the_alphabet_ends() -> None:
    text = [["B", "A", "B"], ["A", "1842", "C", "É"], ["C", "B"]]
    everything = encode_text(text)
    assert everything.words == ("<unk>", "<s>", "</s>", "A", "B", "C")
    assert everything.tokens.tolist() == [1, 4, 3, 4, 2, 1, 3, 0, 5, 0, 2, 1, 5, 4, 2]
    assert everything.misspelt == {"1842": 1, "É": 1}
    assert (everything.unknown, everything.sentences) == (2, 3)
    # B is the most frequent, A and C come equally often.
    limited = encode_text(text, 2)
    assert limited.words[3:] == ("A", "B")
    assert limited.unknown == 4
    listed = encode_text(text, {"C", "NEVER"})
    assert listed.words[3:] == ("C", "NEVER")
    assert listed.unknown == 7


def test_words_of_the_text_are_never_taken_for_marks() -> None:
    assert encode_text([["<s>", "A", "</s>", "<unk>"]]).misspelt.total() == 3


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_compressed_text_is_the_same_text(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    text = "\n".join(" ".join(sentence) for sentence in babble(seed=5, count=3000)).encode()
    suffix = {gzip.compress: ".gz", lzma.compress: ".xz"}[pack]
    (plain := tmp_path / "text.txt").write_bytes(text)
    (packed := tmp_path / f"text.txt{suffix}").write_bytes(pack(text))
    done: list[int] = []
    read = list(read_sentences(packed, on_progress=done.append))
    assert read == list(read_sentences(plain)) == babble(seed=5, count=3000)
    assert 0 < sum(done) <= packed.stat().st_size


def test_transcripts_are_one_sentence_a_line(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("HE SAID 'TIS SO\n\n' ''\nthe dogs' tails\nnext\n")
    read = list(read_sentences(tmp_path / "t.txt"))
    assert read == [["HE", "SAID", "'TIS", "SO"], ["THE", "DOGS'", "TAILS"], ["NEXT"]]


def test_a_stop_here_and_there_makes_no_running_text(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("ST JOHN'S WOOD. YES\n" + 20 * "A GOOD MAN\n")
    read = list(read_sentences(tmp_path / "t.txt"))
    assert read[0] == ["ST", "JOHN'S", "WOOD", "YES"] and len(read) == 21


SAID = ["Well, Mr. Fox, said he. Is he?", "' ' -", "no"]


def test_each_transcript_of_a_manifest_is_a_sentence(tmp_path: Path) -> None:
    said = [Utterance(str(n), tmp_path / f"{n}.wav", 1.5, text) for n, text in enumerate(SAID)]
    write_manifest(tmp_path / "m.jsonl", said)
    done: list[int] = []
    read = list(read_sentences(tmp_path / "m.jsonl", on_progress=done.append))
    assert read == [["WELL", "MR", "FOX", "SAID", "HE", "IS", "HE"], ["NO"]]
    assert sum(done) == (tmp_path / "m.jsonl").stat().st_size
    with pytest.raises(ManifestError, match=r"none\.jsonl: no such manifest"):
        list(read_sentences(tmp_path / "none.jsonl"))
    packed = tmp_path / "m.jsonl.gz"
    packed.write_bytes(gzip.compress((tmp_path / "m.jsonl").read_bytes()))
    with pytest.raises(TextError, match=r"m\.jsonl\.gz: .* unpack it first"):
        list(read_sentences(packed))  # or its keys would be words


RUNNING = """\
CHAPTER II. MR. FOX.
'You ask Mr. Levi where
he is?' she said. "I do." Then--

'Tis J. S. Bach's! 'Well,' he cried, 'no
more of it.'
"""


def test_running_text_is_cut_into_sentences(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(RUNNING)
    assert [" ".join(words) for words in read_sentences(tmp_path / "t.txt")] == [
        "CHAPTER II",
        "MISTER FOX",
        "YOU ASK MISTER LEVI WHERE HE IS SHE SAID",
        "I DO",
        "THEN",
        "'TIS J S BACH'S",
        "WELL HE CRIED NO MORE OF IT",
    ]
    lines = list(read_sentences(tmp_path / "t.txt", one_per_line=True))
    assert len(lines) == 5
    assert lines[1] == ["'YOU", "ASK", "MR", "LEVI", "WHERE"]


def test_perplexity_falls_with_the_order(tmp_path: Path) -> None:
    text = babble(seed=6, count=1000)
    unigram, bigram, trigram = (
        measure_perplexity(build(tmp_path / f"{n}.arpa", text[:-100], n), text[-100:])
        for n in (1, 2, 3)
    )
    assert bigram.including_unknown < 0.95 * unigram.including_unknown
    assert trigram.including_unknown < 0.95 * bigram.including_unknown


@pytest.mark.parametrize("order", [1, 3])
def test_perplexity_with_and_without_unknown_words(tmp_path: Path, order: int) -> None:
    path = build(tmp_path / "m.arpa", babble(seed=7, count=50), order)
    arpa = Arpa(path)
    result = measure_perplexity(path, [["A", "ZEBRA", "B"], ["C"]])
    (a, zebra, b, end), last = arpa.score(["A", "ZEBRA", "B"]), arpa.score(["C"])
    known = a + b + end + sum(last)
    assert (result.sentences, result.words, result.unknown) == (2, 4, 1)
    assert result.including_unknown == pytest.approx(10 ** (-(known + zebra) / 6), rel=1e-4)
    assert result.excluding_unknown == pytest.approx(10 ** (-known / 5), rel=1e-4)


def test_a_perplexity_beyond_floats_is_infinite(tmp_path: Path) -> None:
    path = tmp_path / "m.arpa"
    path.write_text("\\data\\\nngram 1=3\n\n\\1-grams:\n-999 <unk>\n-1 </s>\n-1 A\n\n\\end\\\n")
    result = measure_perplexity(path, [["B"]])
    assert (result.including_unknown, result.excluding_unknown) == (math.inf, 10)
    (tmp_path / "text").write_text("B\n")
    printed = run("perplexity", path, tmp_path / "text", "--json")
    assert json.loads(printed.stdout)["perplexity_including_unknown"] is None


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    text = babble(seed=8, count=50)
    for name in ("a.arpa", "a.arpa.gz", "b.arpa.gz"):
        build(tmp_path / name, text, 3)
    assert (tmp_path / "a.arpa.gz").read_bytes() == (tmp_path / "b.arpa.gz").read_bytes()
    unpacked = gzip.decompress((tmp_path / "a.arpa.gz").read_bytes())
    assert unpacked == (tmp_path / "a.arpa").read_bytes()


def test_chunks_of_a_large_model_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build(tmp_path / "whole.arpa", babble(seed=9, count=50), 3).read_bytes()
    monkeypatch.setattr("asr.lm.arpa._CHUNK", 7)
    assert build(tmp_path / "parts.arpa", babble(seed=9, count=50), 3).read_bytes() == whole


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "m.arpa").write_text("old")
    model = estimate(encode_text([["A", "B"]]), 2)

    def fail(written: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_arpa(tmp_path / "m.arpa", model, fail)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("order", "prune", "match"),
    [
        (0, (0,), "order is 0"),
        (7, (0,), "1 to 6"),
        (2, (0, 0, 1), "at most one number"),
        (2, (), "at most one number"),
        (3, (1, 1, 1), "limit the vocabulary"),
        (3, (0, 2, 1), "may not decrease"),
        (3, (-1, 0), "limit the vocabulary"),
    ],
)
def test_settings_that_make_no_sense(order: int, prune: Sequence[int], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        estimate(encode_text([["A", "B"]]), order, prune)


@pytest.mark.parametrize(
    ("text", "vocabulary", "error", "match"),
    [
        ([], None, TextError, "no word"),
        ([[]], None, TextError, "no word"),
        ([["1842"]], None, TextError, "no word of the text, such as '1842', can be written"),
        ([["A"]], {"B"}, TextError, "no word of the vocabulary"),
        ([["A"]], 0, ConfigError, "at least one"),
        ([["A"]], set(), ConfigError, "at least one"),
        ([["A"]], {"naïve"}, ConfigError, "'naïve'"),
    ],
)
def test_texts_and_vocabularies_that_make_no_sense(
    text: Sentences, vocabulary: int | set[str] | None, error: type[AsrError], match: str
) -> None:
    with pytest.raises(error, match=match):
        encode_text(text, vocabulary)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("latin.txt", "café\n".encode("latin-1")),
        ("cut.gz", gzip.compress(b"SOME TEXT " * 99)[:-9]),
        ("cut.xz", lzma.compress(b"SOME TEXT " * 99)[:-9]),
        ("wrong.gz", b"plain"),
        ("wrong.xz", b"plain"),
        ("missing.txt", None),
    ],
)
def test_texts_that_cannot_be_read(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TextError, match=rf"{name}: cannot read this text") as caught:
        list(read_sentences(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (r"\\data\\", "data", "does not begin"),
        (r"ngram 1=\d+", "ngram 1=99", "announces 99 words"),
        (r"ngram 1=", "ngram 2=", "header"),
        (r"(?s)\\1-grams.*", "", "ends within its header"),
        (r"(?m)^-99", "half", "malformed"),
        (r"(?s)\\2-grams.*", "\\\\2-grams:\n-1\tA", "KenLM cannot read"),
        (r"([A-Z])", r"\1ø", "most of its words are not in the alphabet"),
    ],
)
def test_models_that_cannot_be_read(tmp_path: Path, old: str, new: str, match: str) -> None:
    path = build(tmp_path / "m.arpa", [["A", "B"], ["B", "A"]], 2)
    path.write_text(re.sub(old, new, path.read_text()), encoding="utf-8")
    with pytest.raises(LanguageModelError, match=rf"m\.arpa: .*{match}") as caught:
        measure_perplexity(path, [["B"]])
    assert "\n" not in str(caught.value)


def test_missing_model_and_empty_text(tmp_path: Path) -> None:
    with pytest.raises(
        LanguageModelError, match=r"no\.arpa: cannot read .*no such file; check the path"
    ):
        measure_perplexity(tmp_path / "no.arpa", [["A"]])
    (tmp_path / "bad.arpa.gz").write_bytes(b"plain")
    with pytest.raises(LanguageModelError, match=r"bad\.arpa\.gz: cannot read"):
        read_arpa_head(tmp_path / "bad.arpa.gz")
    with pytest.raises(TextError, match="no word"):
        measure_perplexity(build(tmp_path / "m.arpa", [["A"]], 2), [])


def test_counting_agrees_with_a_dictionary_at_order_six() -> None:
    text = babble(seed=10, count=300)
    model = estimate(encode_text(text), 6)
    for n, order in enumerate(model.orders, start=1):
        expected: defaultdict[Ngram, int] = defaultdict(int)
        for sentence in text:
            padded = ("<s>", *sentence, "</s>")
            for i in range(len(padded) - n + 1):
                expected[padded[i : i + n]] += 1
        assert len(order.word) == len(expected) + (n == 1)  # <unk>
        assert np.isfinite(order.log10_prob).sum() == len(order.word) - (n == 1)  # <s>
        assert (np.diff(order.context * len(model.words) + order.word) > 0).all()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["lm", *map(str, arguments)])


def test_command_in_another_alphabet(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("für könig\nfür 1842\n" * 20, "utf-8")
    model = tmp_path / "m.arpa"
    letters = ("--alphabet", " 'ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÜ")
    result = run("build", tmp_path / "a.txt", "-o", model, *letters)
    assert result.exit_code == 0, result.stderr
    assert read_arpa_head(model).words.keys() >= {"FÜR", "KÖNIG"}
    assert "such as 1842 (20)" in result.stderr


def test_command_builds_and_measures(tmp_path: Path) -> None:
    lines = [" ".join(sentence) for sentence in babble(seed=11, count=200)]
    (tmp_path / "a.txt").write_text("\n".join(lines[:100]))
    (tmp_path / "b.txt.gz").write_bytes(
        gzip.compress("\n".join([*lines[100:], "IN 1842"]).encode())
    )
    texts = [tmp_path / "a.txt", tmp_path / "b.txt.gz"]
    model = tmp_path / "new" / "m.arpa.gz"
    result = run("build", *texts, "-o", model, "--order", 4, "--prune", 0, 0, 1, "--vocab", 6)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "1 of them have characters outside the alphabet, such as 1842 (1)" in result.stderr
    read = [sentence for path in texts for sentence in read_sentences(path)]
    expected = tmp_path / "expected.arpa.gz"
    write_arpa(expected, estimate(encode_text(read, 6), 4, (0, 0, 1, 1)))
    assert model.read_bytes() == expected.read_bytes()

    measured = measure_perplexity(model, read)
    result = run("perplexity", model, *texts)
    assert result.exit_code == 0
    assert f"{measured.including_unknown:.2f}" in result.stdout
    assert f"{measured.excluding_unknown:.2f}" in result.stdout
    result = run("perplexity", model, *texts, "--json")
    assert f'"unknown": {measured.unknown}' in result.stdout
    assert measured.words == sum(map(len, read))


def test_command_takes_a_word_list(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("A B C\nC B A\n")
    (tmp_path / "words.txt").write_text("a\nb\n")
    options = ["build", tmp_path / "t.txt", "-o", tmp_path / "m.arpa", "--vocab"]
    assert run(*options, tmp_path / "words.txt").exit_code == 0
    assert set(read_arpa_head(tmp_path / "m.arpa").words) == {"<unk>", "<s>", "</s>", "A", "B"}
    (tmp_path / "words.txt").write_text("A B\n")
    result = run(*options, tmp_path / "words.txt")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "one word a line" in result.stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--prune", 0, 2, 1], 1, "may not decrease"),
        (["--prune", "few"], 2, "whole numbers"),
        (["--order", 9], 1, "1 to 6"),
        (["--vocab", 0], 1, "at least one word"),
        (["--vocab", "no-such-file"], 1, "no-such-file: cannot read this text"),
    ],
)
def test_command_refuses_what_makes_no_sense(
    tmp_path: Path, options: list[object], code: int, message: str
) -> None:
    (tmp_path / "t.txt").write_text("A B\n")
    result = run("build", tmp_path / "t.txt", "-o", tmp_path / "m.arpa", *options)
    assert result.exit_code == code
    assert message in result.stderr
    assert not (tmp_path / "m.arpa").exists()


def test_command_names_missing_and_empty_texts(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 noir\n")
    (tmp_path / "number.txt").write_text("1842\n")
    for name, message in (
        ("missing.txt", "missing.txt: cannot read this text: no such file; check the path"),
        ("empty.txt", "empty.txt: no word to read"),
        ("latin.txt", "latin.txt: cannot read this text: it is no UTF-8 text"),
        ("number.txt", "no word of the text, such as '1842', can be written"),
    ):
        result = run("build", tmp_path / name, "-o", tmp_path / "m.arpa")
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert message in result.stderr
        assert not list(tmp_path.glob("m.arpa*"))


def test_command_refuses_before_it_reads(tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("A B\n")
    words = tmp_path / "words.txt"
    words.write_text("A\n1842\n")
    for options, message in (
        (("--vocab", words), "words.txt: has the line '1842'; give one word a line"),
        (("--order", 7), "the order is 7"),
        (("--prune", 1), "would take words"),
        (("-o", tmp_path), "is a folder; name a file to write"),
        (("-o", text / "m.arpa"), "m.arpa: cannot be written"),
    ):
        result = run("build", text, "-o", tmp_path / "m.arpa", *options)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1), options
        assert message in result.stderr
    assert sorted(tmp_path.iterdir()) == [text, words]


def test_another_spelling_of_unknown_is_the_same_model(tmp_path: Path) -> None:
    path = build(tmp_path / "m.arpa", [["A", "B", "Ø"], ["B", "A"]], 2)
    before = measure_perplexity(path, [["B", "C"]])
    head = read_arpa_head(path)
    path.write_text(path.read_text().replace("<unk>", "<UNK>"), encoding="utf-8")
    assert read_arpa_head(path) == head
    assert measure_perplexity(path, [["B", "C"]]) == before


def test_a_model_of_small_letters_is_refused_although_it_has_an_i(tmp_path: Path) -> None:
    path = build(tmp_path / "m.arpa", [["I", "AM", "HERE"], ["I", "AM", "THERE"]], 2)
    path.write_text(path.read_text().replace("AM", "am").replace("HERE", "here"))
    with pytest.raises(LanguageModelError, match=r"most of its words .*, such as 'am'; build it"):
        measure_perplexity(path, [["I"]])


@pytest.mark.parametrize("order", [1, 2])
def test_a_model_of_other_letters_is_measured_in_its_own_alphabet(
    tmp_path: Path, order: int
) -> None:
    text = [["ДА", "НЕТ"], ["НЕТ", "ДА"]]
    path = build(tmp_path / "m.arpa", text, order, alphabet=" ДАНЕТ")
    assert measure_perplexity(path, text, " ДАНЕТ").unknown == 0
    (tmp_path / "text.txt").write_text("да нет\n", encoding="utf-8")
    options = (path, tmp_path / "text.txt", "--one-per-line", "--json")
    assert run("perplexity", *options).exit_code == 1
    result = run("perplexity", *options, "--alphabet", " ДАНЕТ")
    assert json.loads(result.stdout)["unknown"] == 0


def test_a_missing_text_is_told_before_any_other_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.lm.sentences.read_sentences", lambda *_, **__: pytest.fail("read"))
    (tmp_path / "t.txt").write_text("A B\n")
    texts = (tmp_path / "t.txt", tmp_path / "typo.txt")
    result = run("build", *texts, "-o", tmp_path / "m.klm")
    assert result.exit_code == 1
    assert "typo.txt: cannot read this text: no such file" in result.stderr
