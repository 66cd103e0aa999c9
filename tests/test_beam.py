"""Prefix beam search against enumeration of all paths; words, names and hotwords."""

import itertools
import math
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from asr.decoding.beam import LN10, BeamDecoder
from asr.decoding.config import DecoderConfig
from asr.decoding.hypothesis import Hypothesis
from asr.errors import ConfigError, LanguageModelError
from asr.lm.arpa import write_arpa
from asr.lm.ngram import encode_text, estimate
from asr.lm.word_model import WordModel
from asr.text import CharTokenizer

SMALL = CharTokenizer(" AB")
ENGLISH = CharTokenizer()
CLOSED = -1000.0


def word_model(
    path: Path, text: str, order: int = 2, alphabet: str = ENGLISH.alphabet
) -> WordModel:
    sentences = [line.split() for line in text.splitlines()]
    write_arpa(path, estimate(encode_text(sentences), order))
    return WordModel(path, alphabet)


def random_log_probs(frames: int, seed: int, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(frames, len(SMALL), generator=generator, dtype=torch.float64)
    return logits.log_softmax(dim=1).float()


def probability_of_texts(log_probs: Tensor) -> dict[str, float]:
    """Sum the probabilities of all paths of each text."""
    total: dict[str, float] = defaultdict(float)
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        text = SMALL.decode(token for token, _ in itertools.groupby(path))
        total[text] += math.exp(sum(log_probs[t, k].item() for t, k in enumerate(path)))
    return total


def best_path_of_texts(log_probs: Tensor) -> dict[str, float]:
    """Return the best path's log-probability of each text, idle spaces taken away."""
    best: dict[str, float] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        text = SMALL.decode(token for token, _ in itertools.groupby(path))
        text = " ".join(text.split())
        score = sum(log_probs[t, k].item() for t, k in enumerate(path))
        best[text] = max(score, best.get(text, -math.inf))
    return best


def exact_prefix_search(log_probs: Tensor, beam_width: int) -> dict[str, float]:
    """The textbook's prefix beam search (Hannun et al. 2014) without a language model.

    Returns the log-probability of each final prefix, summed over its paths in the beam.
    """
    beam = {"": (1.0, 0.0)}  # prefix -> probability that it ends in a blank, or does not
    for probs in log_probs.exp().tolist():
        following: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for prefix, (blank, solid) in beam.items():
            following[prefix][0] += (blank + solid) * probs[0]
            for character, p in zip(SMALL.alphabet, probs[1:], strict=True):
                if prefix.endswith(character):
                    following[prefix][1] += solid * p
                    following[prefix + character][1] += blank * p
                else:
                    following[prefix + character][1] += (blank + solid) * p
        ranked = sorted(following.items(), key=lambda item: -sum(item[1]))
        beam = {
            prefix: (blank, solid)
            for prefix, (blank, solid) in ranked[:beam_width]
            if blank + solid
        }
    return {prefix: math.log(sum(pair)) for prefix, pair in beam.items()}


def decode(decoder: BeamDecoder, log_probs: Tensor) -> list[Hypothesis]:
    [n_best] = decoder.decode(log_probs[None], torch.tensor([len(log_probs)]))
    return n_best


def log_probs_of(text: str, doubts: dict[int, str] | None = None) -> Tensor:
    """Return log-probs that spell ``text``, blanks between; ``doubts`` are nearly as likely."""
    rows = []
    for i, character in enumerate(text):
        probs = torch.full((len(ENGLISH),), 1e-7)
        probs[ENGLISH.encode(character)[0]] = 1.0
        if doubts and i in doubts:
            probs[ENGLISH.encode(doubts[i])[0]] = 0.8
        blank = torch.full((len(ENGLISH),), 1e-7)
        blank[0] = 1.0
        rows += [probs, blank]
    probs = torch.stack(rows)
    return (probs / probs.sum(dim=1, keepdim=True)).log()


@pytest.mark.parametrize("seed", range(5))
def test_reference_search_equals_enumeration(seed: int) -> None:
    log_probs = random_log_probs(6, seed)
    found = exact_prefix_search(log_probs, beam_width=10**6)
    expected = probability_of_texts(log_probs)
    assert found.keys() == expected.keys()
    assert all(found[text] == pytest.approx(math.log(p)) for text, p in expected.items())


@pytest.mark.parametrize("seed", range(5))
def test_without_words_the_full_beam_sums_all_paths(seed: int) -> None:
    log_probs = random_log_probs(6, seed)
    decoder = BeamDecoder(SMALL, DecoderConfig("beam", beam_width=5000), n_best=50)
    expected = exact_prefix_search(log_probs, beam_width=10**6)
    ranked = sorted(expected, key=expected.__getitem__, reverse=True)
    found = decode(decoder, log_probs)
    assert [hypothesis.text for hypothesis in found[:20]] == ranked[:20]
    for hypothesis in found[:20]:
        assert hypothesis.score == pytest.approx(expected[hypothesis.text], abs=1e-3)
        assert hypothesis.acoustic_score == hypothesis.score
        assert hypothesis.lm_score == 0


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("lm_weight, word_score", [(0.0, 0.0), (0.7, 1.0), (2.0, -0.5)])
def test_with_words_the_full_beam_finds_the_best_of_all_texts(
    tmp_path: Path, seed: int, lm_weight: float, word_score: float
) -> None:
    model = word_model(tmp_path / "m.arpa", "A AB\nAB BA A\nBA\nB AB B\n", alphabet=" AB")
    log_probs = random_log_probs(6, seed)
    config = DecoderConfig(
        "beam", 10000, lm_weight=lm_weight, word_score=word_score, unknown_score=CLOSED
    )
    scores = {}
    for text, acoustic in best_path_of_texts(log_probs).items():
        words = text.split()
        if all(word in model.ids for word in words):
            lm = sum(model.score(words)) * LN10
            scores[text] = acoustic + lm_weight * lm + word_score * len(words), acoustic, lm
    best = max(scores, key=lambda text: scores[text][0])
    hypothesis = decode(BeamDecoder(SMALL, config, model), log_probs)[0]
    assert hypothesis.text == best
    assert hypothesis.score == pytest.approx(scores[best][0], abs=1e-4)
    assert hypothesis.acoustic_score == pytest.approx(scores[best][1], abs=1e-4)
    assert hypothesis.lm_score == pytest.approx(scores[best][2], abs=1e-4)


TEXT = "THE CAT SAT ON THE MAT\nTHE RAT SAT\nA CAT AND A RAT\nSHE SAW ANNE\n"


def test_the_language_model_corrects_the_acoustics(tmp_path: Path) -> None:
    model = word_model(tmp_path / "m.arpa", TEXT)
    log_probs = log_probs_of("THE CAD SAT")
    log_probs[12, ENGLISH.encode("T")[0]] = log_probs[12].max() - 0.5
    without = decode(BeamDecoder(ENGLISH, DecoderConfig("beam", 50)), log_probs)[0]
    assert without.text == "THE CAD SAT"
    decoder = BeamDecoder(ENGLISH, DecoderConfig("beam", 50), model)
    assert decode(decoder, log_probs)[0].text == "THE CAT SAT"


@pytest.mark.parametrize("name", ["AVONLEA", "ZXQV", "OTTO", "LLOYD", "B"])
def test_a_word_outside_the_lexicon_is_spelled_where_the_acoustics_insist(
    tmp_path: Path, name: str
) -> None:
    model = word_model(tmp_path / "m.arpa", TEXT)
    for text in (f"THE CAT SAW {name}", f"{name} SAT", f"SHE SAW {name} SAT"):
        decoder = BeamDecoder(ENGLISH, DecoderConfig("beam", 50), model)
        assert decode(decoder, log_probs_of(text))[0].text == text
        closed = BeamDecoder(ENGLISH, DecoderConfig("beam", 50, unknown_score=CLOSED), model)
        assert name not in decode(closed, log_probs_of(text))[0].text.split()


def test_times_point_at_the_frames_of_the_characters(tmp_path: Path) -> None:
    model = word_model(tmp_path / "m.arpa", TEXT)
    for decoder in (
        BeamDecoder(ENGLISH, DecoderConfig("beam", 50), model),
        BeamDecoder(ENGLISH, DecoderConfig("beam", 50)),
    ):
        hypothesis = decode(decoder, log_probs_of("THE CAT"))[0]
        assert hypothesis.timesteps == tuple(range(0, 14, 2))
        assert ENGLISH.decode(hypothesis.tokens) == hypothesis.text == "THE CAT"


def test_a_hotword_recovers_a_name_and_harms_no_other_word(tmp_path: Path) -> None:
    model = word_model(tmp_path / "m.arpa", TEXT)
    heard = log_probs_of("SHE SAW AMME", doubts={9: "N", 10: "N"})  # ANNE is in the model
    other = log_probs_of("THE CAT SAT ON THE MAT")
    plain = BeamDecoder(ENGLISH, DecoderConfig("beam", 50, lm_weight=0.1), model)
    assert decode(plain, heard)[0].text == "SHE SAW ANNE"
    name = log_probs_of("SHE SAW MARELA", doubts={11: "I", 12: "L"})
    assert "MARILA" not in decode(plain, name)[0].text
    config = DecoderConfig("beam", 50, lm_weight=0.1)
    hot = BeamDecoder(ENGLISH, config, model, hotwords=["Marila", "the mat"])
    assert decode(hot, name)[0].text == "SHE SAW MARILA"
    assert decode(hot, other)[0].text == "THE CAT SAT ON THE MAT"
    assert decode(hot, heard)[0].text == "SHE SAW ANNE"


def test_n_best_texts_differ_and_fall_in_score(tmp_path: Path) -> None:
    model = word_model(tmp_path / "m.arpa", TEXT)
    log_probs = log_probs_of("THE CAT", doubts={4: "R", 6: "S"})
    n_best = decode(BeamDecoder(ENGLISH, DecoderConfig("beam", 50), model, n_best=2), log_probs)
    assert len({h.text for h in n_best}) == len(n_best) == 2
    assert {n_best[0].text, n_best[1].text} == {"THE CAT", "THE RAT"}
    scores = [h.score for h in n_best]
    assert scores == sorted(scores, reverse=True)


def test_batch_mates_and_padding_change_nothing(tmp_path: Path) -> None:
    model = word_model(tmp_path / "m.arpa", TEXT)
    rows = [log_probs_of(text) for text in ("THE CAT SAT", "A RAT", "")[:2]]
    for decoder in (
        BeamDecoder(ENGLISH, DecoderConfig("beam", 20), model),
        BeamDecoder(ENGLISH, DecoderConfig("beam", 20)),
    ):
        batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1.0)
        together = decoder.decode(batch, torch.tensor([len(row) for row in rows]))
        assert together == [decode(decoder, row) for row in rows]


def test_no_frames_and_too_many(tmp_path: Path) -> None:
    model = word_model(tmp_path / "m.arpa", TEXT)
    decoder = BeamDecoder(ENGLISH, DecoderConfig("beam"), model)
    empty = torch.zeros(1, 0, len(ENGLISH))
    assert decoder.decode(empty, torch.tensor([0])) == [[Hypothesis("", (), (), 0.0, 0.0)]]
    with pytest.raises(ValueError, match="length 3 exceeds 2 frames"):
        decoder.decode(torch.zeros(1, 2, len(ENGLISH)), torch.tensor([3]))


def test_the_lexicon_limits_and_extends_the_words(tmp_path: Path) -> None:
    model = word_model(tmp_path / "m.arpa", TEXT)
    config = DecoderConfig("beam", 50, unknown_score=CLOSED)
    decoder = BeamDecoder(ENGLISH, config, model, words=["THE", "RAT", "MARILLA"])
    assert decode(decoder, log_probs_of("THE CAT", {4: "R"}))[0].text == "THE RAT"
    assert decode(decoder, log_probs_of("THE MARILLA"))[0].text == "THE MARILLA"


def test_hotwords_count_whatever_the_weight_of_the_model(tmp_path: Path) -> None:
    model = word_model(tmp_path / "m.arpa", TEXT)
    said = log_probs_of("THE CAT", {4: "R"})
    for weight in (0.0, 0.5):
        config = DecoderConfig("beam", 50, lm_weight=weight, hotword_score=20.0)
        hypothesis = decode(BeamDecoder(ENGLISH, config, model, hotwords=["Cat"]), said)[0]
        assert hypothesis.text == "THE CAT"
        # What the n-grams say, without the bonus.
        expected = sum(model.score(["THE", "CAT"])) * LN10
        assert hypothesis.lm_score == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("text", ["THE RAT SAT ON THE MAT", "THE CAT SAT", "SHE SAW ANNE"])
def test_the_beginning_of_a_hotword_leaves_room_for_other_words(tmp_path: Path, text: str) -> None:
    model = word_model(tmp_path / "m.arpa", TEXT)
    config = DecoderConfig("beam", 50, lm_weight=0.5, hotword_score=60.0)
    hot = BeamDecoder(
        ENGLISH, config, model, hotwords=["Raven", "Cathedral", "Satellite", "Annette"]
    )
    assert decode(hot, log_probs_of(text))[0].text == text


@pytest.mark.parametrize(
    ("text", "earned"),
    [
        ("THE CAT", 6.0),
        ("CAT CAT", 12.0),
        ("THE SCAT", 0.0),  # the end of a longer word, which is spelled in pieces
        ("THE XQZ CAT", 6.0),
        ("XQZ XCAT CAT THE CAT", 12.0),
        ("THE MARILLA CAT", 6.0),  # behind a word of the lexicon that the model does not list
    ],
)
def test_a_hotword_earns_its_bonus_as_a_word_of_its_own(
    tmp_path: Path, text: str, earned: float
) -> None:
    model = word_model(tmp_path / "m.arpa", TEXT)
    config = DecoderConfig("beam", 50, lm_weight=0.7, word_score=1.3, hotword_score=6.0)
    said = log_probs_of(text)
    words = ["THE", "CAT", "MARILLA"]
    favouring = BeamDecoder(ENGLISH, config, model, words=words, hotwords=["Cat"])
    found = decode(favouring, said)[0]
    plain = decode(BeamDecoder(ENGLISH, config, model, words=words), said)[0]
    assert found.text == plain.text == text
    assert found.score - plain.score == pytest.approx(earned, abs=1e-3)
    assert found.lm_score == pytest.approx(plain.lm_score, abs=1e-3)


def test_a_phrase_earns_its_bonus_once_and_the_score_of_each_word(tmp_path: Path) -> None:
    model = word_model(tmp_path / "m.arpa", TEXT)
    config = DecoderConfig("beam", 50, lm_weight=0.7, word_score=1.3, hotword_score=6.0)
    said = log_probs_of("THE CAT")
    favouring = decode(BeamDecoder(ENGLISH, config, model, hotwords=["the cat"]), said)[0]
    plain = decode(BeamDecoder(ENGLISH, config, model), said)[0]
    assert favouring.text == plain.text == "THE CAT"
    assert favouring.score - plain.score == pytest.approx(6.0, abs=1e-3)
    assert favouring.lm_score == pytest.approx(plain.lm_score, abs=1e-3)


def test_errors_are_one_clear_line(tmp_path: Path) -> None:
    model = word_model(tmp_path / "m.arpa", TEXT)
    config = DecoderConfig("beam")
    with pytest.raises(LanguageModelError, match="lexicon word 'CAFÉ' cannot be spelled: 'É'"):
        BeamDecoder(ENGLISH, config, model, words=["CAFÉ"])
    with pytest.raises(ConfigError, match="hotword '4711' cannot be spelled"):
        BeamDecoder(ENGLISH, config, model, hotwords=["4711"])
    with pytest.raises(ConfigError, match="hotwords need a language model"):
        BeamDecoder(ENGLISH, config, hotwords=["ANNE"])
    with pytest.raises(ConfigError, match="a lexicon needs a language model"):
        BeamDecoder(ENGLISH, config, words=["ANNE"])
    with pytest.raises(ConfigError, match="no space"):
        BeamDecoder(CharTokenizer("AB"), config, model)
    with pytest.raises(LanguageModelError, match="most of its words are not in the alphabet 'xyz'"):
        WordModel(tmp_path / "m.arpa", "xyz")
    write_arpa(tmp_path / "1.arpa", estimate(encode_text([["A"]]), 1))
    with pytest.raises(LanguageModelError, match="holds single words only"):
        WordModel(tmp_path / "1.arpa")
