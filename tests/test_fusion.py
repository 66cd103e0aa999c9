"""Shallow fusion and rescoring with a character model, against enumeration of all texts."""

import itertools
import math
from collections import defaultdict

import pytest
import torch
from torch import Tensor

from asr.decoding.alignment import align_words
from asr.decoding.beam import BeamDecoder
from asr.decoding.build import build_decoder
from asr.decoding.config import DecoderConfig
from asr.decoding.fusion import FusionDecoder
from asr.decoding.hypothesis import Decoder, Hypothesis
from asr.decoding.rescoring import Rescorer, RescoringDecoder
from asr.errors import ConfigError
from asr.lm.character import CharacterModel, CharacterModelConfig
from asr.text import CharTokenizer

SMALL = CharTokenizer(" AB")


@pytest.fixture(scope="module")
def model() -> CharacterModel:
    """A character model with strong opinions."""
    torch.manual_seed(0)
    model = CharacterModel(CharacterModelConfig("gru", 8, alphabet=" AB")).eval()
    with torch.no_grad():
        model.output.weight.mul_(6)
    return model


def random_log_probs(frames: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(frames, len(SMALL), generator=generator)).log_softmax(dim=1)


def acoustic_scores(log_probs: Tensor) -> dict[str, float]:
    """Sum all paths of each text, where a space at the begin or after another is silence."""
    total: dict[str, float] = defaultdict(float)
    for path in itertools.product(range(len(SMALL)), repeat=len(log_probs)):
        text = SMALL.decode(token for token, _ in itertools.groupby(path))
        ends = " " if text.endswith(" ") and text.strip() else ""
        text = " ".join(text.split()) + ends
        total[text] += math.exp(sum(log_probs[t, k].item() for t, k in enumerate(path)))
    return {text: math.log(p) for text, p in total.items()}


def decode(decoder: Decoder, log_probs: Tensor) -> list[Hypothesis]:
    [n_best] = decoder.decode(log_probs[None], torch.tensor([len(log_probs)]))
    return n_best


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("weight, character_score", [(0.0, 0.0), (0.5, 0.2), (1.5, 1.0)])
def test_the_full_beam_equals_enumeration(
    model: CharacterModel, seed: int, weight: float, character_score: float
) -> None:
    log_probs = random_log_probs(6, seed)
    decoder = FusionDecoder(
        SMALL, model, beam_width=10**5, weight=weight, character_score=character_score, n_best=20
    )
    expected = {
        text: (
            acoustic + weight * lm + character_score * len(text),
            acoustic,
            lm,
        )
        for text, acoustic in acoustic_scores(log_probs).items()
        for lm in [model.score([text]).item()]
    }
    ranked = sorted(expected, key=lambda text: -expected[text][0])
    found = decode(decoder, log_probs)
    for hypothesis, text in zip(found[:10], ranked[:10], strict=True):
        values = hypothesis.score, hypothesis.acoustic_score, hypothesis.lm_score
        assert hypothesis.text == text
        assert values == pytest.approx(expected[text], abs=1e-3)


def test_an_alphabet_without_a_space_has_no_silence() -> None:
    torch.manual_seed(0)
    letters = CharTokenizer("ABC")
    model = CharacterModel(CharacterModelConfig("gru", 8, alphabet="ABC")).eval()
    log_probs = random_log_probs(5, 0)
    acoustic: dict[str, float] = defaultdict(float)
    for path in itertools.product(range(len(letters)), repeat=len(log_probs)):
        text = letters.decode(token for token, _ in itertools.groupby(path))
        acoustic[text] += math.exp(sum(log_probs[t, k].item() for t, k in enumerate(path)))
    expected = {
        text: math.log(p) + 0.5 * model.score([text]).item() + 0.2 * len(text)
        for text, p in acoustic.items()
    }
    decoder = FusionDecoder(
        letters, model, beam_width=10**5, weight=0.5, character_score=0.2, n_best=5
    )
    for hypothesis, text in zip(
        decode(decoder, log_probs), sorted(expected, key=lambda text: -expected[text]), strict=False
    ):
        assert hypothesis.text == text
        assert hypothesis.score == pytest.approx(expected[text], abs=1e-3)


def test_a_narrow_beam_finds_what_a_wide_one_finds_on_clear_speech(model: CharacterModel) -> None:
    log_probs = (8 * torch.randn(40, 4, generator=torch.Generator().manual_seed(1))).log_softmax(1)
    narrow, wide = (
        decode(FusionDecoder(SMALL, model, beam_width=width, weight=0.2), log_probs)[0]
        for width in (40, 400)
    )
    assert narrow.text == wide.text
    assert narrow.score <= wide.score + 1e-6


def test_times_are_those_of_the_best_path(model: CharacterModel) -> None:
    path = "-AA-B--  A-"
    tokens = [0 if c == "-" else SMALL.encode(c)[0] for c in path]
    log_probs = torch.full((len(path), 4), -9.0)
    log_probs[range(len(path)), tokens] = 0.0
    hypothesis = decode(FusionDecoder(SMALL, model, weight=0.1), log_probs.log_softmax(1))[0]
    assert hypothesis.text == "AB A"
    assert hypothesis.timesteps == (1, 4, 7, 9)


def test_batch_mates_and_padding_change_nothing(model: CharacterModel) -> None:
    decoder = FusionDecoder(SMALL, model, beam_width=10)
    rows = [random_log_probs(frames, frames) for frames in (9, 4, 6)]
    batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1.0)
    together = decoder.decode(batch, torch.tensor([9, 4, 6]))
    assert [n_best[0].text for n_best in together] == [decode(decoder, row)[0].text for row in rows]
    with pytest.raises(ValueError, match="exceeds"):
        decoder.decode(batch, torch.tensor([10, 4, 6]))


def test_no_frames_give_the_empty_text(model: CharacterModel) -> None:
    [hypothesis] = decode(FusionDecoder(SMALL, model), torch.zeros(0, 4))
    assert (hypothesis.text, hypothesis.timesteps, hypothesis.acoustic_score) == ("", (), 0.0)


def test_rescoring_adds_the_models_opinion_and_sorts(model: CharacterModel) -> None:
    lists = [
        [
            Hypothesis("AB", (2, 3), (0, 1), -1.0, -1.0),
            Hypothesis("BA", (3, 2), (0, 1), -1.1, -1.1),
        ],
        [Hypothesis("", (), (), -0.5, -0.5, -2.0)],
    ]
    scores = {text: model.score([text]).item() for text in ("AB", "BA", "")}
    rescored = Rescorer(SMALL, model, weight=2.0, character_score=0.5).rescore(lists)
    for n_best in rescored:
        assert n_best == sorted(n_best, key=lambda hypothesis: -hypothesis.score)
        for hypothesis in n_best:
            old = next(h for n in lists for h in n if h.text == hypothesis.text)
            expected = old.score + 2.0 * scores[old.text] + 0.5 * len(old.text)
            assert hypothesis.score == pytest.approx(expected, abs=1e-4)
            assert hypothesis.lm_score == pytest.approx(old.lm_score + scores[old.text], abs=1e-4)
            assert hypothesis.acoustic_score == old.acoustic_score
    likelier = max(("AB", "BA"), key=scores.__getitem__)
    assert rescored[0][0].text == likelier


@pytest.mark.parametrize("seed", range(4))
def test_rescoring_all_texts_of_the_beam_equals_enumeration(
    model: CharacterModel, seed: int
) -> None:
    log_probs = random_log_probs(5, seed)
    acoustic: dict[str, float] = defaultdict(float)
    for path in itertools.product(range(len(SMALL)), repeat=len(log_probs)):
        text = SMALL.decode(token for token, _ in itertools.groupby(path))
        acoustic[text] += math.exp(sum(log_probs[t, k].item() for t, k in enumerate(path)))
    expected = {
        text: math.log(p) + 0.8 * model.score([text]).item() + 0.4 * len(text)
        for text, p in acoustic.items()
    }
    config = DecoderConfig("beam", beam_width=5000, n_best=5000, char_lm_weight=0.8, char_score=0.4)
    found = decode(build_decoder(SMALL, config, character_model=model), log_probs)
    ranked = sorted(expected, key=lambda text: -expected[text])
    for hypothesis, text in zip(found[:10], ranked[:10], strict=True):
        assert hypothesis.text == text
        assert hypothesis.score == pytest.approx(expected[text], abs=1e-3)


def test_rescored_texts_are_the_same_alone_and_together_and_have_times(
    model: CharacterModel,
) -> None:
    config = DecoderConfig("beam", beam_width=30, n_best=10, char_lm_weight=1.0)
    decoder = build_decoder(SMALL, config, character_model=model)
    rows = [random_log_probs(frames, frames) for frames in (12, 1, 7)]
    batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1.0)
    together = decoder.decode(batch, torch.tensor([12, 1, 7]))
    for n_best, row in zip(together, rows, strict=True):
        alone = decode(decoder, row)
        assert [h.text for h in n_best] == [h.text for h in alone]
        assert 1 <= len(n_best) <= 10
        words = align_words(n_best[0], row, SMALL, 0.04)
        assert [word.word for word in words] == n_best[0].text.split()
        assert all(0 <= word.start < word.end <= 0.04 * len(row) for word in words)
        assert all(0 < word.confidence <= 1 for word in words)


def test_settings_choose_the_decoder(model: CharacterModel) -> None:
    fusion = build_decoder(
        SMALL,
        DecoderConfig("fusion", fusion_width=7, fusion_weight=0.9, fusion_score=0.1),
        character_model=model,
    )
    assert isinstance(fusion, FusionDecoder)
    assert (fusion.beam_width, fusion.weight, fusion.character_score) == (7, 0.9, 0.1)
    with pytest.raises(ConfigError, match="fusion needs a character model; give one with --char"):
        build_decoder(SMALL, DecoderConfig("fusion"))
    beam = DecoderConfig("beam", n_best=3)
    both = build_decoder(SMALL, beam, character_model=model)
    assert isinstance(both, RescoringDecoder)
    assert len(decode(both, random_log_probs(9, 0))) == 3
    without = DecoderConfig("beam", n_best=4, char_lm_weight=0.0)
    plain = build_decoder(SMALL, without, character_model=model)
    assert isinstance(plain, BeamDecoder)
    assert len(decode(plain, random_log_probs(9, 0))) == 4
    assert len(decode(fusion, random_log_probs(9, 0))) == 7  # as many as it keeps
    assert isinstance(build_decoder(SMALL, beam), BeamDecoder)


def test_another_alphabet_is_refused(model: CharacterModel) -> None:
    for make in (FusionDecoder, Rescorer):
        with pytest.raises(ConfigError, match="alphabet ' AB', the recogniser ' BA'"):
            make(CharTokenizer(" BA"), model)
