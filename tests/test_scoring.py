"""Error counts against a plain dynamic program, intervals against known spreads."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import ManifestError
from asr.scoring.bootstrap import (
    _percentiles,
    _resampled_rates,
    compare,
    rate_interval,
    resampling_unit,
)
from asr.scoring.files import read_utterances, write_utterances
from asr.scoring.report import Confusion, score
from asr.scoring.utterances import Counts, ScoredUtterance, score_utterance

TEXTS = st.lists(st.sampled_from(["A", "B", "AB", "BA"]), max_size=8).map(" ".join)


def edit_distance(reference: list[str], hypothesis: list[str]) -> int:
    """Return the fewest edits, by the textbook recurrence."""
    row = list(range(len(hypothesis) + 1))
    for i, left in enumerate(reference, start=1):
        previous, row = row, [i]
        for j, right in enumerate(hypothesis, start=1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (left != right)))
    return row[-1]


def many(number: int, speakers: int = 0, seed: int = 0) -> list[ScoredUtterance]:
    """Return utterances of ten words, each recognised or not with a speaker's own chance."""
    generator = random.Random(seed)
    chances = [generator.random() for _ in range(max(speakers, 1))]
    utterances = []
    for i in range(number):
        who = i % max(speakers, 1)
        heard = ["A" if generator.random() < chances[who] else "B" for _ in range(10)]
        name = f"speaker{who}" if speakers else ""
        utterances.append(
            score_utterance(f"u{i}", "A " * 10, " ".join(heard), duration=4.0, speaker=name)
        )
    return utterances


@given(TEXTS, TEXTS)
def test_counts_agree_with_dynamic_programming(reference: str, hypothesis: str) -> None:
    utterance = score_utterance("u", reference, hypothesis)
    words, characters = utterance.words, utterance.characters
    assert words.errors == edit_distance(reference.split(), hypothesis.split())
    assert words.hits + words.substitutions + words.deletions == len(reference.split())
    assert words.hits + words.substitutions + words.insertions == len(hypothesis.split())
    assert characters.errors == edit_distance(list(reference), list(hypothesis))
    assert characters.length == len(reference)
    assert len(utterance.differences) == words.errors
    assert len(utterance.character_differences) == characters.errors


@given(TEXTS)
def test_a_perfect_hypothesis_has_no_errors(text: str) -> None:
    utterance = score_utterance("u", text, text)
    assert utterance.words == Counts(hits=len(text.split()))
    assert utterance.characters.rate == 0
    assert utterance.differences == ()


def test_both_sides_are_normalised() -> None:
    utterance = score_utterance("u", "“It’s”, he said.", " IT'S he  said")
    assert utterance.reference == "IT'S HE SAID"
    assert utterance.words.errors == utterance.characters.errors == 0


def test_differences_name_the_words() -> None:
    utterance = score_utterance("u", "THE CAT A B SAT C D", "THE HAT A B C D NOW")
    assert utterance.words == Counts(hits=5, substitutions=1, deletions=1, insertions=1)
    assert sorted(utterance.differences) == sorted([("CAT", "HAT"), ("SAT", ""), ("", "NOW")])


def test_empty_references_and_hypotheses() -> None:
    silent = score_utterance("silent", "", "")
    noise = score_utterance("noise", "", "A B")
    missed = score_utterance("missed", "A B", "")
    assert silent.words.rate == silent.characters.rate == 0
    assert noise.words == Counts(insertions=2)
    assert noise.words.rate == 2
    assert missed.words == Counts(deletions=2)
    assert missed.words.rate == 1
    assert score([silent]).wer_ci == (0, 0)
    report = score([silent, noise, missed])
    assert (report.words, report.insertions, report.deletions, report.wer) == (2, 2, 2, 2.0)


def test_no_utterances_are_refused() -> None:
    with pytest.raises(ManifestError, match="no utterances"):
        score([])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_report_pools_counts_over_the_corpus(pairs: list[tuple[str, str]]) -> None:
    utterances = [score_utterance(str(i), *pair) for i, pair in enumerate(pairs)]
    report = score(utterances)
    errors = sum(edit_distance(left.split(), right.split()) for left, right in pairs)
    assert report.substitutions + report.deletions + report.insertions == errors
    assert report.hits + report.substitutions + report.deletions == report.words
    assert report.words == sum(len(left.split()) for left, _ in pairs)
    assert report.wer == pytest.approx(errors / max(report.words, 1))


def test_interval_agrees_with_the_binomial_spread() -> None:
    utterances = many(400)
    rate = score(utterances).wer
    low, high = rate_interval(utterances, lambda utterance: utterance.words)
    spread = 1.96 * np.sqrt(rate * (1 - rate) / 4000)
    assert low == pytest.approx(rate - spread, abs=0.2 * spread)
    assert high == pytest.approx(rate + spread, abs=0.2 * spread)


def test_speakers_are_drawn_whole_and_widen_the_interval() -> None:
    known = many(400, speakers=8)
    unknown = [replace(utterance, speaker="") for utterance in known]
    assert resampling_unit(known) == "speaker"
    assert resampling_unit(unknown) == "utterance"
    assert resampling_unit([*known, unknown[0]]) == "utterance"
    assert resampling_unit(known[:1]) == "utterance"
    wide = np.ptp(rate_interval(known, lambda utterance: utterance.words))
    narrow = np.ptp(rate_interval(unknown, lambda utterance: utterance.words))
    rates = [group.wer for group in score(known).by_speaker]
    assert wide == pytest.approx(2 * 2.365 * np.std(rates, ddof=1) / np.sqrt(8), rel=0.2)
    assert wide > 2 * narrow


def test_intervals_are_the_same_every_time() -> None:
    utterances = many(30)
    assert score(utterances) == score(utterances)


def test_breakdowns() -> None:
    utterances = [
        score_utterance("a", "A B", "A B", duration=1.0, speaker="good"),
        score_utterance("b", "A B", "A C", duration=2.0, speaker="bad"),
        score_utterance("c", "A B", "C C", duration=99.0, speaker="bad"),
    ]
    report = score(utterances)
    assert [(g.name, g.utterances, g.words, g.wer) for g in report.by_speaker] == [
        ("bad", 2, 4, 0.75),
        ("good", 1, 2, 0.0),
    ]
    assert [(g.name, g.seconds) for g in report.by_duration] == [
        ("0-2 s", 1.0),
        ("2-5 s", 2.0),
        ("20 s and more", 99.0),
    ]
    assert report.by_duration[0].wer_ci == (0, 0)
    assert report.by_speaker[0].wer_ci == (0.5, 1)
    assert report.confusions == (Confusion("B", "C", 2), Confusion("A", "C", 1))
    assert [utterance.id for utterance in report.worst] == ["c", "b"]
    assert report.seconds == 102.0


def test_a_report_becomes_json() -> None:
    entry = json.loads(json.dumps(score(many(3, speakers=3)).to_json(), allow_nan=False))
    assert entry["hits"] + entry["substitutions"] + entry["deletions"] == entry["words"] == 30
    assert len(entry["wer_ci"]) == 2
    assert entry["resampled_by"] == "speaker"
    assert entry["by_speaker"][0]["name"].startswith("speaker")
    assert entry["worst"][0]["reference"] == "A A A A A A A A A A"


def test_equal_systems_do_not_differ() -> None:
    utterances = many(50)
    result = compare(utterances, list(reversed(utterances)))
    assert result.difference == 0
    assert result.p_value == 1


def test_a_clearly_better_system_is_significant() -> None:
    worse, better = (
        many(50, seed=1),
        [score_utterance(f"u{i}", "A " * 10, "A " * 10) for i in range(50)],
    )
    result = compare(worse, better)
    assert result.wer_b == 0
    assert result.difference == -result.wer_a < 0
    assert result.difference_ci[1] < 0
    assert result.p_value < 0.003
    assert compare(better, worse).difference == -result.difference


def test_p_values_of_equally_good_systems_are_spread_evenly() -> None:
    p_values = [compare(*_coin_systems(seed)).p_value for seed in range(60)]
    assert np.mean(np.array(p_values) < 0.5) == pytest.approx(0.5, abs=0.2)
    assert np.mean(np.array(p_values) < 0.05) < 0.15


def _coin_systems(seed: int) -> list[list[ScoredUtterance]]:
    generator = random.Random(seed)
    return [
        [
            score_utterance(str(i), "A A A", " ".join(generator.choices("AB", k=3)))
            for i in range(40)
        ]
        for _ in range(2)
    ]


def test_systems_on_different_utterances_are_not_compared() -> None:
    with pytest.raises(ManifestError, match="different utterances"):
        compare(many(3), many(4))


def test_speakers_that_one_system_lacks_are_those_of_the_other() -> None:
    known = many(40, speakers=5)
    unknown = [replace(u, speaker="") for u in known]
    others = [replace(u, speaker=f"x{i % 7}") for i, u in enumerate(known)]
    for a, b in [(known, unknown), (unknown, known), (known, others)]:
        result = compare(a, b)
        assert result.difference_ci == (0, 0)
        assert result.resampled_by == "speaker"


def test_few_speakers_tell_little() -> None:
    a = [score_utterance(f"u{i}", "A " * 50, "A " * 40, speaker=f"s{i}") for i in range(2)]
    b = [score_utterance(f"u{i}", "A " * 50, "A " * 41, speaker=f"s{i}") for i in range(2)]
    assert compare(a, b).p_value == 0.5  # both speakers would favour one of two equals so often


@pytest.mark.parametrize(("speakers", "covered"), [(5, 0.90), (10, 0.93), (40, 0.94)])
def test_intervals_cover_the_true_rate_so_often(speakers: int, covered: float) -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        # Normal rates of 20 % on the whole; each speaker says 10,000 words.
        errors = np.clip(generator.normal(2000, 300, speakers), 0, None).astype(int)
        rows = np.stack([errors, np.full(speakers, 10_000)], axis=1)
        low, high = _percentiles(_resampled_rates([rows])[0], speakers)
        hits += low <= 0.2 <= high
    assert covered - 0.03 < hits / 400 < covered + 0.06


def test_names_may_be_numbers_and_missing_values_null(tmp_path: Path) -> None:
    row = {"id": 0, "reference": "A", "hypothesis": "B", "speaker": 0, "duration": None}
    path = tmp_path / "utterances.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"id": 1, "speaker": None}))
    first, second = read_utterances(path)
    assert (first.id, first.speaker, first.duration) == ("0", "0", 0)
    assert (second.id, second.speaker) == ("1", "")
    path.write_text(json.dumps(row | {"duration": float("nan")}))
    with pytest.raises(ManifestError, match=":1: not an object with id"):
        read_utterances(path)


def test_results_survive_a_file(tmp_path: Path) -> None:
    utterances = many(5, speakers=2)
    write_utterances(tmp_path / "new" / "utterances.jsonl", utterances)
    assert read_utterances(tmp_path / "new" / "utterances.jsonl") == utterances


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no results"),
        ("{", ":1: not an object with id"),
        ("[]", ":1: not an object with id"),
        ("[" * 100_000, ":1: not an object with id"),
        ('{"id": "a", "reference": "A"}', ":1: not an object with id"),
        ('{"id": "a", "reference": "A", "hypothesis": 1}', ":1: not an object with id"),
        ('{"id": null, "reference": "A", "hypothesis": "A"}', ":1: not an object with id"),
        *(
            (f'{{"id": "a", "reference": "A", "hypothesis": "A", {more}}}', ":1: not an object")
            for more in ('"duration": 1' + "0" * 400, '"duration": -5', '"audio": [1]')
        ),
        ('{"id": "a", "reference": "A", "hypothesis": ""}\n' * 2, ":2: id 'a' comes twice"),
        (None, "cannot read"),
    ],
)
def test_malformed_results_are_refused(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "utterances.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ManifestError, match=message):
        read_utterances(path)
