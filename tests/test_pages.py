"""The web pages: what they hold is true, safe and no larger than it should be."""

import base64
import hashlib
import io
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jiwer
import numpy as np
import pytest
import soundfile
import torch
from babble import babbling_model, write_babbler, write_tones
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

from asr.audio import load_audio
from asr.cli.main import app
from asr.data.manifest import Utterance, write_manifest
from asr.decoding.calibration import Calibration
from asr.features import LogMel
from asr.pages import media
from asr.pages.comparison import write_comparison
from asr.pages.report import link, operations, write_report
from asr.scoring.bootstrap import compare
from asr.scoring.report import score
from asr.scoring.utterances import ScoredUtterance, score_utterance
from asr.transcriber import Transcriber

TEXTS = st.lists(st.sampled_from(["A", "B", "AB", "BA"]), max_size=8).map(" ".join)
NASTY = "</script><script>alert(1)</script><!-- \"'& \u2028 {{7}} ${7}"


class Parsed(HTMLParser):
    """A page as a browser takes it apart: its scripts, style, policy, title and addresses."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.addresses: list[str] = []
        self.style = self.title = self.policy = ""
        self._open = ""
        self.text = path.read_text("utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self._open = tag
        self.addresses += [attributes[name] or "" for name in ("src", "href") if name in attributes]
        if tag == "script":
            self.scripts.append((attributes, ""))
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"] or ""

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            attributes, content = self.scripts[-1]
            self.scripts[-1] = attributes, content + data
        elif self._open in ("style", "title"):
            setattr(self, self._open, getattr(self, self._open) + data)

    @property
    def data(self) -> dict[str, Any]:
        [content] = [text for attributes, text in self.scripts if attributes.get("id") == "data"]
        return json.loads(content)

    @property
    def media(self) -> dict[int, dict[str, Any]]:
        return {
            int(attributes["data-media"] or ""): json.loads(text)
            for attributes, text in self.scripts
            if "data-media" in attributes
        }


def utterances(number: int = 4) -> list[ScoredUtterance]:
    pairs = [("THE CAT SAT", "THE HAT SAT"), ("A B", "A B"), ("X", ""), ("", "NOISE")]
    return [
        score_utterance(
            f"u{i}", *pairs[i % 4], duration=1.0 + 3 * i, speaker=f"s{i % 2}", audio=f"/c/{i}.wav"
        )
        for i in range(number)
    ]


def report_page(path: Path, scored: list[ScoredUtterance], **extras: Any) -> Parsed:
    write_report(path, score(scored), scored, **{"title": "test", **extras})
    return Parsed(path)


def comparison_page(path: Path, a: list[ScoredUtterance], b: list[ScoredUtterance]) -> Parsed:
    write_comparison(path, compare(a, b), a, b, names=("one", "two"))
    return Parsed(path)


@pytest.fixture
def parsed(tmp_path: Path, request: pytest.FixtureRequest) -> Parsed:
    if request.param == "report":
        return report_page(tmp_path / "page.html", utterances())
    return comparison_page(tmp_path / "page.html", utterances(), utterances())


both = pytest.mark.parametrize("parsed", ["report", "comparison"], indirect=True)


@both
def test_a_page_needs_nothing_from_elsewhere(parsed: Parsed) -> None:
    assert parsed.addresses == ["data:,"]
    assert set(re.findall(r"https?://[^/\"']+", parsed.text)) == {"http://www.w3.org"}  # a name
    assert not re.search(r"@import|url\(", parsed.style)


@both
def test_the_policy_lets_the_pages_own_script_run_and_no_other(parsed: Parsed) -> None:
    policy = dict(part.split(" ", 1) for part in parsed.policy.split("; "))
    [script] = [text for attributes, text in parsed.scripts if attributes["type"] == "module"]
    for name, content in (("script-src", script), ("style-src", parsed.style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[name] == f"'sha256-{digest}'"
    assert policy["default-src"] == "'none'"


def test_texts_cannot_become_markup(tmp_path: Path) -> None:
    nasty = score_utterance(NASTY, NASTY, NASTY + " $x", speaker=NASTY, audio=f"/{NASTY}")
    page = report_page(
        tmp_path / "report.html", [nasty], title=NASTY, subtitle=NASTY, setting={NASTY: NASTY}
    )
    assert len(page.scripts) == 2
    assert page.title == f"{NASTY} · asr"
    assert page.data["title"] == page.data["setting"][NASTY] == NASTY
    [row] = page.data["utterances"]
    assert (row["id"], row["speaker"], row["reference"]) == (NASTY, NASTY, nasty.reference)
    page = comparison_page(tmp_path / "comparison.html", [nasty], [nasty])
    assert len(page.scripts) == 2
    assert page.data["utterances"][0]["id"] == NASTY


def test_names_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    odd = score_utterance("caf\udce9", "A", "A", audio="/caf\udce9.wav")
    [row] = report_page(tmp_path / "report.html", [odd]).data["utterances"]
    assert row["id"] == "caf\udce9"
    assert row["audio"].endswith("caf%E9.wav")


@given(TEXTS, TEXTS)
def test_operations_count_what_the_scores_count(reference: str, hypothesis: str) -> None:
    utterance = score_utterance("u", reference, hypothesis)
    counts = Counter(operations(utterance.alignment))
    words = utterance.words
    assert (counts["="], counts["S"]) == (words.hits, words.substitutions)
    assert (counts["D"], counts["I"]) == (words.deletions, words.insertions)
    assert " ".join(left for left, _ in utterance.alignment if left) == utterance.reference
    assert " ".join(right for _, right in utterance.alignment if right) == utterance.hypothesis


def test_the_page_holds_the_report(tmp_path: Path) -> None:
    scored = utterances()
    data = report_page(tmp_path / "report.html", scored).data
    expected = json.loads(json.dumps(score(scored).to_json()))
    assert data["report"] == {key: value for key, value in expected.items() if key != "worst"}
    assert [row["operations"] for row in data["utterances"]] == ["=S=", "==", "D", "I"]
    assert [row["band"] for row in data["utterances"]] == ["0-2 s", "2-5 s", "5-10 s", "10-15 s"]
    assert data["calibration"] is None
    assert "words" not in data["utterances"][0]


def test_confused_characters_are_counted(tmp_path: Path) -> None:
    scored = utterances(8)
    characters = report_page(tmp_path / "report.html", scored).data["characters"]
    errors = sum(utterance.characters.errors for utterance in scored)
    assert sum(count for *_, count in characters["confusions"]) == errors
    assert ["C", "H", 2] in characters["confusions"]
    assert dict(characters["characters"])["C"] == 2
    assert ["X", "", 2] in characters["confusions"]


def test_rare_scripts_do_not_make_the_matrix_endless(tmp_path: Path) -> None:
    text = "".join(chr(0x4E00 + i) for i in range(200))
    scored = [score_utterance("u", text, text[::-1])]
    characters = report_page(tmp_path / "report.html", scored).data["characters"]
    names = {name for name, _ in characters["characters"]}
    assert len(names) == 40
    assert all({left, right} <= names | {""} for left, right, _ in characters["confusions"])


@pytest.mark.parametrize("name", ["a.wav", "deep/b c#d?.flac", "http:x.wav", "é.wav"])
def test_recordings_are_found_from_the_page(tmp_path: Path, name: str) -> None:
    page = tmp_path / "reports" / "one" / "report.html"
    address = link(str(tmp_path / "audio" / name), page)
    assert not re.search(r"[:#? ]", address)
    assert (page.parent / unquote(address)).resolve() == tmp_path / "audio" / name


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber(babbling_model(), torch.device("cpu"), calibration=Calibration(0.7, -0.2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    lines = [
        Utterance(
            f"u{i}", write_tones(folder / f"{i}.wav", 1.0 + i, seed=i), 1.0 + i, "A BC D", "ann"
        )
        for i in range(3)
    ]
    write_manifest(folder / "test.jsonl", lines)
    write_babbler(folder / "babbler.asr")
    return folder


def test_sound_and_pictures_are_those_of_the_recording(
    folder: Path, transcriber: Transcriber
) -> None:
    path = folder / "2.wav"
    scored = [score_utterance("u2", "A", "B", audio=str(path), duration=3.0)]
    item = media.embed(scored, transcriber, 1)[0]
    waveform = load_audio(path, transcriber.sample_rate)
    sound, rate = soundfile.read(io.BytesIO(base64.b64decode(item["audio"])))
    assert len(sound) / rate == pytest.approx(3.0, abs=0.05)
    heard = load_audio(path, rate)
    assert np.corrcoef(heard, sound[: len(heard)])[0, 1] > 0.9

    with torch.inference_mode():
        batch = torch.from_numpy(waveform)[None], torch.tensor([len(waveform)])
        expected = transcriber.model.log_probs_of(*batch)[0][0].exp().numpy()
    posteriors = np.asarray(Image.open(io.BytesIO(base64.b64decode(item["posteriors"]))))
    assert np.abs(posteriors.T / 255 - expected).max() < 0.5 / 255 + 1e-3

    grey = np.asarray(Image.open(io.BytesIO(base64.b64decode(item["mel"]))).convert("L"))
    log_mel = LogMel(transcriber.model.features_config)(torch.from_numpy(waveform)[None])[0].numpy()
    loud = log_mel.T[::-1] - log_mel.max() > -80 * np.log(10) / 10
    assert grey.shape == log_mel.T.shape
    assert np.corrcoef(grey[loud], log_mel.T[::-1][loud])[0, 1] > 0.95
    assert len(grey[0]) * item["mel_frame_seconds"] == pytest.approx(3.0, abs=0.05)
    assert len(posteriors[0]) * item["frame_seconds"] == pytest.approx(3.0, abs=0.1)


def test_most_of_the_worst_and_a_few_others_are_embedded() -> None:
    scored = [score_utterance(f"u{i}", "A " * 100, "B " * (i % 50)) for i in range(100)]
    chosen = media.choose(scored, 20)
    errors = sorted((utterance.words.errors for utterance in scored), reverse=True)
    assert len(set(chosen)) == 20
    assert [scored[i].words.errors for i in chosen[4:]] == errors[:16]
    assert media.choose(scored, 20) == chosen
    assert sorted(media.choose(scored, 1000)) == list(range(100))
    assert media.choose(scored, 0) == []


def test_the_page_does_not_grow_beyond_its_limit(
    folder: Path, transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = [
        score_utterance(f"u{i}", "A", "B", audio=str(folder / f"{i}.wav"), duration=1.0)
        for i in range(3)
    ]
    everything = media.embed(scored, transcriber, 3)
    sizes = {
        i: sum(len(value) for value in item.values() if isinstance(value, str))
        for i, item in everything.items()
    }
    assert len(sizes) == 3
    monkeypatch.setattr(media, "MOST_BYTES", sum(sizes.values()) - 1)
    assert len(media.embed(scored, transcriber, 3)) == 2
    monkeypatch.setattr(media, "MOST_BYTES", 10)
    assert media.embed(scored, transcriber, 3) == {}


def test_of_damage_the_page_does_not_warn_again(transcriber: Transcriber, tmp_path: Path) -> None:
    path = write_tones(tmp_path / "cut.wav", 2.0)
    path.write_bytes(path.read_bytes()[:40_000])
    scored = [score_utterance("u", "A", "B", audio=str(path), duration=2.0)]
    assert 1.0 < media.embed(scored, transcriber, 1)[0]["seconds"] < 1.5


def test_unreadable_recordings_are_left_out(transcriber: Transcriber, tmp_path: Path) -> None:
    assert media.embed([score_utterance("u", "A", "B", audio="none.wav")], transcriber, 1) == {}


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_evaluate_writes_the_page(folder: Path, tmp_path: Path) -> None:
    model = folder / "babbler.asr"
    run("evaluate", folder / "test.jsonl", "--model", model, "--output", tmp_path, "--media", 2)
    page = Parsed(tmp_path / "report.html")
    assert page.data["title"] == "test"
    assert set(page.media) == {
        row for row in range(3) if "has_media" in page.data["utterances"][row]
    }
    assert len(page.media) == 2
    assert page.data["symbols"] == list(" ABCDEF")
    setting = page.data["setting"]
    assert setting["Decoder"] == "greedy"
    assert setting["Model"].startswith("babbler.asr: 1 bidirectional layers of 16 lstm cells, 0.0")
    assert {"Test data", "Speed", "Command", "Version", "Date"} <= set(setting)
    transcript = Transcriber.load(model, "cpu").transcribe(folder / "0.wav")
    expected = [value for w in transcript.words for value in (w.start, w.end, w.confidence)]
    assert np.array(page.data["utterances"][0]["words"]) / 100 == pytest.approx(expected, abs=0.006)
    words = sum(len(row["hypothesis"].split()) for row in page.data["utterances"])
    assert sum(b["words"] for b in page.data["calibration"]["bins"]) == words


def test_hypotheses_alone_make_a_page_without_posteriors(folder: Path, tmp_path: Path) -> None:
    run("evaluate", folder / "test.jsonl", "--model", folder / "babbler.asr", "--output", tmp_path)
    given = tmp_path / "utterances.jsonl"
    run("evaluate", folder / "test.jsonl", "--hypotheses", given, "--output", tmp_path / "again")
    page = Parsed(tmp_path / "again" / "report.html")
    assert page.media == {}
    assert page.data["calibration"] is None
    assert page.data["setting"]["Hypotheses"] == str(given)
    [address] = {row["audio"] for row in page.data["utterances"] if row["id"] == "u1"}
    assert (tmp_path / "again" / unquote(address)).resolve() == (folder / "1.wav").resolve()


def test_score_writes_the_page(tmp_path: Path) -> None:
    (tmp_path / "ref.txt").write_text("one two\nthree\n")
    (tmp_path / "hyp.txt").write_text("one too\nthree\n")
    run("score", tmp_path / "ref.txt", tmp_path / "hyp.txt", "--output", tmp_path / "o")
    data = Parsed(tmp_path / "o" / "report.html").data
    assert [row["operations"] for row in data["utterances"]] == ["=S", "="]
    assert "audio" not in data["utterances"][0]
    assert json.loads((tmp_path / "o" / "report.json").read_text())["substitutions"] == 1
    assert len((tmp_path / "o" / "utterances.jsonl").read_text().splitlines()) == 2


def test_compare_writes_the_page(folder: Path, tmp_path: Path) -> None:
    model = folder / "babbler.asr"
    for name in ("a", "b"):
        output = tmp_path / name
        run("evaluate", folder / "test.jsonl", "--model", model, "--output", output, "--media", 0)
    lines = (tmp_path / "b" / "utterances.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows[0]["hypothesis"] = rows[0]["reference"]
    (tmp_path / "b" / "utterances.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in reversed(rows))
    )
    paths = [tmp_path / name / "utterances.jsonl" for name in ("a", "b")]
    result = json.loads(run("compare", *paths, "-o", tmp_path / "page.html", "--json").stdout)
    data = Parsed(tmp_path / "page.html").data
    assert data["comparison"] == result

    def wer(path: Path) -> float:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return jiwer.wer([row["reference"] for row in rows], [row["hypothesis"] for row in rows])

    a, b = map(wer, paths)
    assert b < a
    found = [result[name] for name in ("wer_a", "wer_b", "difference")]
    assert found == pytest.approx([a, b, b - a])
    assert data["names"] == ["a", "b"]
    first = data["utterances"][0]
    assert (first["id"], first["b"]["operations"]) == ("u0", "===")
    assert first["a"]["operations"] != "==="
