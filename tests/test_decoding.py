"""Greedy decoding against other ways of computing it, and the alignment of its words."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr.decoding.alignment import Word, align_words
from asr.decoding.config import DecoderConfig
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.hypothesis import Hypothesis
from asr.errors import ConfigError
from asr.text import CharTokenizer

TOKENIZER = CharTokenizer(" AB")


def random_log_probs(batch: int, frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, frames, len(TOKENIZER), generator=generator)
    return logits.log_softmax(dim=2)


def log_probs_of_path(path: str, certain: float = 0.9) -> Tensor:
    """Return (frames, vocab) whose best path is ``path``, with "-" for the blank."""
    rest = (1 - certain) / (len(TOKENIZER) - 1)
    probs = torch.full((len(path), len(TOKENIZER)), rest)
    for frame, character in enumerate(path):
        probs[frame, 0 if character == "-" else TOKENIZER.encode(character)[0]] = certain
    return probs.log()


def decode_one(log_probs: Tensor) -> Hypothesis:
    [[hypothesis]] = GreedyDecoder(TOKENIZER).decode(
        log_probs[None], torch.tensor([len(log_probs)])
    )
    return hypothesis


@pytest.mark.parametrize("seed", range(5))
def test_finds_the_best_of_all_paths(seed: int) -> None:
    log_probs = random_log_probs(1, 5, seed)[0]
    paths = itertools.product(range(len(TOKENIZER)), repeat=5)
    scores = {path: sum(log_probs[t, k].item() for t, k in enumerate(path)) for path in paths}
    best = max(scores, key=scores.__getitem__)
    hypothesis = decode_one(log_probs)
    assert hypothesis.score == pytest.approx(scores[best], abs=1e-5)
    assert hypothesis.text == TOKENIZER.decode(token for token, _ in itertools.groupby(best))


@given(st.lists(st.text(alphabet="- AB", min_size=1, max_size=12), min_size=1, max_size=4))
def test_collapses_like_groupby(paths: list[str]) -> None:
    lengths = torch.tensor([len(path) for path in paths])
    rows = [log_probs_of_path(path) for path in paths]
    batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    results = GreedyDecoder(TOKENIZER).decode(batch, lengths)
    for path, [hypothesis] in zip(paths, results, strict=True):
        runs = [(character, len(list(run))) for character, run in itertools.groupby(path)]
        starts = list(itertools.accumulate((n for _, n in runs), initial=0))
        kept = [(c, start) for (c, _), start in zip(runs, starts, strict=False) if c != "-"]
        assert hypothesis.text == "".join(c for c, _ in kept)
        assert hypothesis.timesteps == tuple(start for _, start in kept)
        assert hypothesis.tokens == tuple(TOKENIZER.encode(hypothesis.text))


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(0, 99))
def test_padding_and_batch_mates_change_nothing(lengths: list[int], seed: int) -> None:
    log_probs = random_log_probs(len(lengths), 9, seed)
    together = GreedyDecoder(TOKENIZER).decode(log_probs, torch.tensor(lengths))
    for row, length, result in zip(log_probs, lengths, together, strict=True):
        if length:
            alone = decode_one(row[:length])
            score = pytest.approx(alone.score, abs=1e-5)
            assert result == [Hypothesis(alone.text, alone.tokens, alone.timesteps, score, score)]
        else:
            assert result == [Hypothesis("", (), (), 0.0, 0.0)]


def test_a_length_beyond_the_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="exceeds"):
        GreedyDecoder(TOKENIZER).decode(random_log_probs(1, 3), torch.tensor([4]))


def test_unknown_method_is_refused() -> None:
    with pytest.raises(ConfigError, match="'oracle' is unknown"):
        DecoderConfig("oracle")  # type: ignore[arg-type]


def test_words_have_the_times_of_their_characters() -> None:
    log_probs = log_probs_of_path("--AAB-- -A-")
    words = align_words(decode_one(log_probs), log_probs, TOKENIZER, 0.04)
    assert [word.word for word in words] == ["AB", "A"]
    assert [(word.start, word.end) for word in words] == [
        pytest.approx((0.08, 0.20)),
        pytest.approx((0.36, 0.40)),
    ]


def test_confidence_is_the_mean_posterior_of_the_peaks() -> None:
    log_probs = torch.cat([log_probs_of_path("A", 0.4), log_probs_of_path("AB", 0.9)])
    [word] = align_words(decode_one(log_probs), log_probs, TOKENIZER, 0.04)
    assert word.confidence == pytest.approx(0.9)
    log_probs = torch.cat([log_probs_of_path("A", 0.4), log_probs_of_path("B", 0.9)])
    [word] = align_words(decode_one(log_probs), log_probs, TOKENIZER, 0.04)
    assert word.confidence == pytest.approx(math.sqrt(0.4 * 0.9))


def test_a_hypothesis_off_the_best_path_is_aligned_at_its_timesteps() -> None:
    log_probs = log_probs_of_path("AAAA", 0.7)
    hypothesis = Hypothesis("B A", (3, 1, 2), (0, 1, 2), -9.0, -9.0)
    words = align_words(hypothesis, log_probs, TOKENIZER, 1.0)
    assert words == [
        Word("B", 0.0, 1.0, pytest.approx(0.1)),
        Word("A", 2.0, 4.0, pytest.approx(0.7)),
    ]


@pytest.mark.parametrize("path", ["----", "- - ", "    "])
def test_no_characters_no_words(path: str) -> None:
    log_probs = log_probs_of_path(path)
    assert align_words(decode_one(log_probs), log_probs, TOKENIZER, 0.04) == []


@given(st.integers(0, 200), st.integers(1, 30))
def test_words_are_in_order_and_within_the_audio(seed: int, frames: int) -> None:
    log_probs = random_log_probs(1, frames, seed)[0]
    hypothesis = decode_one(log_probs)
    words = align_words(hypothesis, log_probs, TOKENIZER, 0.5)
    edges = [edge for word in words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert all(0 <= edge <= 0.5 * frames for edge in edges)
    assert all(word.start < word.end and 0 <= word.confidence <= 1 for word in words)
    assert " ".join(word.word for word in words) == " ".join(hypothesis.text.split())


def test_a_timestep_outside_the_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        align_words(
            Hypothesis("A", (2,), (4,), 0.0, 0.0), log_probs_of_path("----"), TOKENIZER, 0.04
        )
