import subprocess
import sys
from collections import Counter
from functools import cache
from itertools import groupby, product
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from asr.bundle import save_bundle
from asr.cli.check import check as command
from asr.data.check import ManifestCheck, check_utterances, describe
from asr.data.manifest import Utterance, write_manifest
from asr.decoding.config import DecoderConfig
from asr.errors import ManifestError
from asr.features import FeatureConfig
from asr.models.ctc import CtcModel
from asr.models.encoder import EncoderConfig
from asr.text import CharTokenizer

TOKENIZER = CharTokenizer(" 'ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def frames(seconds: float) -> int:
    return round(10 * seconds)


def look(*utterances: Utterance, read_audio: bool = False) -> ManifestCheck:
    return check_utterances(utterances, TOKENIZER, frames, read_audio=read_audio)


def utterance(text: str, duration: float = 10.0, id: str = "one", speaker: str = "") -> Utterance:
    return Utterance(id, Path(f"{id}.wav"), duration, text, speaker)


def make_audio(path: Path, seconds: float) -> Path:
    soundfile.write(path, 0.1 * np.sin(np.arange(int(seconds * 8000)) * 0.3), 8000)
    return path


def test_what_a_training_leaves_out_is_told() -> None:
    found = look(utterance("A", 35.0), utterance("B", 36.0, "two"))
    assert "long: 1 of 2 utterances are over 35 s" in describe(found)
    assert "long:" not in describe(look(utterance("A", 35.0)))


def test_counts() -> None:
    found = look(
        utterance("ab", 1.5, "x", "ann"), utterance("b", 0.5, "y", "bob"), utterance("a", 3, "z")
    )
    assert (found.utterances, found.seconds, found.speakers) == (3, 5.0, 2)
    assert found.durations == (0.5, 1.5, 3)
    assert found.characters == {"A": 2, "B": 2}
    assert not found.unknown
    assert found.problems == ()


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffIT'S LATE",
        "It’s late.",
        "it's\r\n late\r\n",
        "“It's — late!”",
        "I\u200bT'S\u00a0LATE",
    ],
    ids=["byte-order mark", "apostrophe", "CRLF", "punctuation", "invisible"],
)
def test_conventions_of_writing_are_no_unknown_characters(text: str) -> None:
    found = look(utterance(text))
    assert found.problems == ()
    assert found.characters == Counter("IT'S LATE")


def test_unknown_characters_are_counted_in_any_unicode_form() -> None:
    found = look(
        utterance("caf\u00e9", id="composed"),
        utterance("cafe\u0301 5", id="decomposed"),
        utterance("coffee", id="good"),
    )
    assert found.unknown == {"\u00c9": 2, "5": 1}
    assert [(p.kind, p.id, p.detail) for p in found.problems] == [
        ("unknown characters", "composed", "\u00c9"),
        ("unknown characters", "decomposed", "5 \u00c9"),
    ]
    report = describe(found)
    assert "U+00C9 LATIN CAPITAL LETTER E WITH ACUTE, 2 times" in report
    assert "2 of 3 utterances" in report


@pytest.mark.parametrize("text", ["", "  ", "…!", "\ufeff"])
def test_text_of_nothing(text: str) -> None:
    (problem,) = look(utterance(text)).problems
    assert problem.kind == "no text"


def test_silence_may_be_trained_on(tmp_path: Path) -> None:
    silence = Utterance("s", make_audio(tmp_path / "s.wav", 2.0), 2.0, "")
    write_manifest(tmp_path / "m.jsonl", [silence])
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(tmp_path / "m.jsonl")])
    assert result.exit_code == 0
    assert "no text: 1 of 1 utterances; right where nobody speaks" in result.stdout


def test_a_duration_beyond_all_reason_is_counted_too() -> None:
    assert "to 100000000020 s" in describe(look(utterance("A", 1e11)))


@pytest.mark.parametrize(
    ("text", "needed"), [("ABC", 3), ("ABBA", 5), ("AAA", 5), ("A A", 3), ("a  a,  a", 5)]
)
def test_frames_that_cannot_hold_the_text(text: str, needed: int) -> None:
    assert look(utterance(text, needed / 10)).problems == ()
    (problem,) = look(utterance(text, (needed - 1) / 10, id="short")).problems
    assert (problem.kind, problem.id) == ("too short", "short")
    assert f"{needed - 1} frames" in problem.detail
    assert f"{needed} needed" in problem.detail


@cache
def writable_texts(frames: int) -> set[str]:
    """Return all texts that CTC paths of so many frames collapse to."""
    paths = product("-AB", repeat=frames)
    return {"".join(c for c, _ in groupby(path)).replace("-", "") for path in paths}


@given(st.text("AB", min_size=1, max_size=5), st.integers(1, 8))
def test_too_short_is_what_no_path_can_write(text: str, count: int) -> None:
    found = look(utterance(text, count / 10))
    assert bool(found.problems) is (text not in writable_texts(count))


def test_audio_problems(tmp_path: Path) -> None:
    good = make_audio(tmp_path / "good.flac", 1.0)
    cut = make_audio(tmp_path / "cut.flac", 2.0)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (tmp_path / "noise.flac").write_bytes(b"no audio")
    utterances = [
        Utterance("good", good, 1.05, "GOOD"),
        Utterance("cut", cut, 2.0, "CUT"),
        Utterance("wrong", good, 1.5, "WRONG"),
        Utterance("noise", tmp_path / "noise.flac", 1.0, "NOISE"),
        Utterance("missing", tmp_path / "missing.flac", 1.0, "MISSING"),
    ]
    assert look(*utterances).problems == ()
    found = look(*utterances, read_audio=True)
    kinds = {problem.id: problem.kind for problem in found.problems}
    assert kinds == {
        "cut": "duration",
        "wrong": "duration",
        "noise": "unreadable",
        "missing": "unreadable",
    }
    assert "missing.flac" in describe(found)


def test_report_names_only_so_many() -> None:
    found = look(*(utterance("ABC", 0.1, id=f"u{n}") for n in range(30)))
    report = describe(found, limit=3)
    assert [f"u{n}:" in report for n in (0, 2, 3)] == [True, True, False]
    assert "and 27 more" in report


@given(st.lists(st.floats(0.001, 1e5), min_size=1, max_size=50))
def test_histogram_counts_every_utterance_once(durations: list[float]) -> None:
    found = look(*(utterance("", seconds) for seconds in durations))
    bars = [line for line in describe(found).splitlines() if " to " in line and " s  " in line]
    assert len(bars) <= 20
    assert sum(int(bar.split()[-1]) for bar in bars) == len(durations)
    for bar in bars:
        first, _, last = bar.split()[:3]
        count = sum(float(first) <= seconds < float(last) for seconds in durations)
        assert int(bar.split()[-1]) == count
        assert ("#" in bar) == (count > 0)


def test_result_is_frozen() -> None:
    with pytest.raises(AttributeError):
        look(utterance("A")).seconds = 0  # type: ignore[misc]


# --- asr check ---


def run(*arguments: object):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    audio = make_audio(tmp_path / "one.wav", 1.0)
    write_manifest(tmp_path / "m.jsonl", [Utterance("one", audio, 1.0, "HÉ HO", "ann")])
    return tmp_path / "m.jsonl"


def test_command_fails_on_problems(manifest: Path) -> None:
    result = run(manifest)
    assert result.exit_code == 1
    assert "unknown characters: 1 of 1" in result.stdout


def test_command_with_another_alphabet(manifest: Path) -> None:
    result = run(manifest, "--alphabet", " HÉO")
    assert result.exit_code == 0, result.output
    assert "unknown" not in result.stdout
    assert "speakers    1" in result.stdout


def test_command_counts_the_frames_of_the_encoder(tmp_path: Path) -> None:
    # 0.2 s at 16 kHz are 21 feature frames, hence 11, 7 or 6 frames after subsampling.
    audio = make_audio(tmp_path / "one.wav", 0.2)
    write_manifest(tmp_path / "m.jsonl", [Utterance("one", audio, 0.2, "ABCDEFG")])
    codes = [run(tmp_path / "m.jsonl", "--subsampling", n).exit_code for n in (2, 3, 4)]
    assert codes == [0, 0, 1]
    assert run(tmp_path / "m.jsonl", "--subsampling", 5).exit_code == 2


def test_command_takes_alphabet_and_frames_from_a_model(tmp_path: Path) -> None:
    audio = make_audio(tmp_path / "one.wav", 0.2)
    write_manifest(tmp_path / "m.jsonl", [Utterance("one", audio, 0.2, "ÀBÀBÀBÀ")])
    encoder = EncoderConfig(hidden_size=4, num_layers=1, conv_channels=2, subsampling=3)
    for alphabet, code in (("ÀB", 0), ("AB", 1)):
        model = CtcModel(FeatureConfig(n_mels=8), encoder, alphabet)
        save_bundle(tmp_path / "small.asr", model, DecoderConfig(), "a card")
        assert run(tmp_path / "m.jsonl", "--model", tmp_path / "small.asr").exit_code == code
    # Twice the distance between frames leaves 11 feature frames, hence 4 after subsampling.
    model = CtcModel(FeatureConfig(n_mels=8, hop_length=320), encoder, "ÀB")
    save_bundle(tmp_path / "small.asr", model, DecoderConfig(), "a card")
    result = run(tmp_path / "m.jsonl", "--model", tmp_path / "small.asr")
    assert result.exit_code == 1
    assert "one: 4 frames from 0.20 s, 7 needed" in result.stdout


def test_command_without_audio(manifest: Path) -> None:
    (manifest.parent / "one.wav").unlink()
    assert run(manifest, "--alphabet", " HÉO").exit_code == 1
    assert run(manifest, "--alphabet", " HÉO", "--no-audio").exit_code == 0


def test_command_with_a_bad_manifest(tmp_path: Path) -> None:
    assert isinstance(run(tmp_path / "none.jsonl").exception, ManifestError)


def test_commands_import_nothing_heavy() -> None:
    code = (
        "import sys, asr.cli.check, asr.cli.prepare;"
        "sys.exit(' '.join({'torch', 'numpy', 'soundfile'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
