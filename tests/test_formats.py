"""Every format, read back by a parser that is not ours."""

import csv
import html
import io
import itertools
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import srt
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st
from praatio import textgrid
from rich.console import Console

from asr.decoding.alignment import Word
from asr.errors import ConfigError
from asr.formats.cues import PAUSE, CueRules
from asr.formats.plain import to_dict
from asr.formats.registry import FORMATS, JOINABLE, Format, renderers, suffix
from asr.formats.terminal import coloured
from asr.transcriber import Segment, Transcript


def transcript(
    *segments: list[Word], duration: float | None = None, path: str = "talks/a talk.wav"
) -> Transcript:
    parts = tuple(
        Segment(words[0].start, words[-1].end, " ".join(w.word for w in words), tuple(words))
        for words in segments
        if words
    )
    length = duration if duration is not None else max((part.end for part in parts), default=1.0)
    return Transcript(path, length, " ".join(part.text for part in parts), parts)


def spoken(text: str, start: float = 0.0, seconds: float = 0.3, gap: float = 0.1) -> list[Word]:
    """Return words of equal length and distance."""
    step = seconds + gap
    return [
        Word(word, start + i * step, start + i * step + seconds, 0.9)
        for i, word in enumerate(text.split())
    ]


def render(result: Transcript, format: Format, **rules: float | None) -> str:
    return renderers(CueRules(**rules))[format](result)  # type: ignore[arg-type]


SPELLINGS = st.text(
    st.sampled_from("aBÄ'ß語<>&\"\\$%-;,#{}|/\u0301") | st.characters(codec="utf-8"), min_size=1
).filter(lambda text: text.isprintable() and text.split() == [text])


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    """Words with increasing times in whole milliseconds, in any number of segments."""
    segments: list[list[Word]] = []
    now = draw(st.integers(0, 40_000_000))
    for count in draw(st.lists(st.integers(1, 30), max_size=3)):
        segments.append([])
        for _ in range(count):
            now += draw(st.integers(0, 1500))
            length = draw(st.integers(1, 1000))
            confidence = draw(st.integers(0, 1000)) / 1000
            word = Word(draw(SPELLINGS), now / 1000, (now + length) / 1000, confidence)
            segments[-1].append(word)
            now += length
    duration = (now + draw(st.integers(1, 2000))) / 1000
    name = draw(st.text("ab .;é\"'", min_size=1).filter(str.strip))
    return transcript(*segments, duration=duration, path=f"talks/{name}.wav")


Timed = tuple[str, float, float]
Rated = tuple[str, float, float, float]


def parse_jsonl(content: str) -> list[Rated]:
    return [tuple(word.values()) for word in json.loads(content)["words"]]


def parse_tsv(content: str) -> list[Rated]:
    header, *rows = csv.reader(io.StringIO(content), dialect="excel-tab")
    assert header == ["start", "end", "word", "confidence"]
    return [(word, float(start), float(end), float(sure)) for start, end, word, sure in rows]


def parse_ctm(content: str) -> list[Rated]:
    words = []
    for line in content.splitlines():
        _, channel, start, length, word, confidence = line.split(" ")
        assert channel == "1"
        end = round(float(start) + float(length), 3)
        words.append((word, float(start), end, float(confidence)))
    return words


def parse_textgrid(content: str) -> list[Rated]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.TextGrid"
        path.write_text(content, encoding="utf-8")
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="error")
    words, confidences = (grid.getTier(name).entries for name in ("words", "confidence"))
    edges = [edge for entry in words for edge in (entry.start, entry.end)]
    assert edges[1:-1:2] == edges[2::2]  # no holes
    assert (edges[0], edges[-1]) == (0.0, grid.maxTimestamp)
    return [
        (word.label, word.start, word.end, float(sure.label))
        for word, sure in zip(words, confidences, strict=True)
        if word.label
    ]


def parse_srt(content: str) -> list[Timed]:
    cues = list(srt.parse(content, ignore_errors=False))
    assert [cue.index for cue in cues] == list(range(1, len(cues) + 1))
    return [(cue.content, cue.start.total_seconds(), cue.end.total_seconds()) for cue in cues]


def parse_vtt(content: str) -> list[Timed]:
    cues = webvtt.from_string(content)
    assert all(cue.text == cue.raw_text for cue in cues)  # nothing was taken for a tag
    return [(html.unescape(cue.text), seconds(cue.start), seconds(cue.end)) for cue in cues]


def seconds(clock: str) -> float:
    hours, minutes, rest = clock.split(":")
    return round(3600 * int(hours) + 60 * int(minutes) + float(rest), 3)


@given(transcripts())
@settings(max_examples=50, deadline=None)
def test_words_come_back_with_times_and_confidences(result: Transcript) -> None:
    words = [tuple(asdict(word).values()) for word in result.words]
    assert parse_jsonl(render(result, "jsonl")) == words
    assert parse_jsonl(render(result, "json")) == words
    assert parse_tsv(render(result, "tsv")) == words
    assert parse_ctm(render(result, "ctm")) == words
    assert parse_textgrid(render(result, "textgrid")) == words
    assert render(result, "txt") == result.text + "\n"


@given(transcripts(), st.none() | st.integers(1, 5), st.integers(10, 50))
@settings(max_examples=100, deadline=None)
def test_subtitles_come_back_and_keep_the_rules(
    result: Transcript, words_per_line: int | None, line_length: int
) -> None:
    rules = {"words_per_line": words_per_line, "line_length": line_length}
    cues = parse_srt(render(result, "srt", **rules))
    assert parse_vtt(render(result, "vtt", **rules)) == cues
    assert " ".join(text.replace("\n", " ") for text, _, _ in cues) == result.text

    words, last = list(result.words), {segment.end for segment in result.segments}
    starts = [start for _, start, _ in cues]
    for (text, start, end), following in itertools.zip_longest(cues, starts[1:]):
        shown = [words.pop(0) for _ in text.split()]
        lines = text.split("\n")
        assert len(lines) <= (1 if words_per_line else 2)
        assert all(len(line) <= line_length or " " not in line for line in lines)
        assert words_per_line is None or len(shown) <= words_per_line
        assert shown[-1].end - start <= 7 or len(shown) == 1
        assert start == shown[0].start
        for word, after in itertools.pairwise(shown):
            assert after.start - word.end < PAUSE + 1e-9
            assert word.end not in last
        # Shown long enough, and gone a little before the next.
        if following is None:
            latest = result.duration
        else:
            latest = following - min(1 / 12, (following - start) / 2)
        assert end == pytest.approx(min(max(shown[-1].end, start + 5 / 6), latest), abs=0.0011)
        assert start < end
        assert following is None or end <= max(following, start + 0.001)


def test_json_holds_everything() -> None:
    result = transcript(
        [Word("IT'S", 0.12345, 0.5, 0.98765)], [Word("SO", 2.0, 2.5, 1.0)], duration=3.0001
    )
    expected = {
        "path": "talks/a talk.wav",
        "duration": 3.0,
        "text": "IT'S SO",
        "segments": [
            {"start": 0.123, "end": 0.5, "text": "IT'S"},
            {"start": 2.0, "end": 2.5, "text": "SO"},
        ],
        "words": [
            {"word": "IT'S", "start": 0.123, "end": 0.5, "confidence": 0.988},
            {"word": "SO", "start": 2.0, "end": 2.5, "confidence": 1.0},
        ],
    }
    assert to_dict(result) == expected
    assert to_dict(replace(result, warning="cut")) == expected | {"warning": "cut"}
    assert json.loads(render(result, "json")) == expected
    assert json.loads(render(result, "jsonl")) == expected
    assert render(result, "jsonl").count("\n") == 1


def test_no_words() -> None:
    result = transcript(duration=2.5)
    assert {format: render(result, format) for format in ("txt", "srt", "vtt", "tsv", "ctm")} == {
        "txt": "\n",
        "srt": "",
        "vtt": "WEBVTT\n",
        "tsv": "start\tend\tword\tconfidence\n",
        "ctm": "",
    }
    assert parse_textgrid(render(result, "textgrid")) == []
    assert "xmax = 2.500\n" in render(result, "textgrid")
    assert parse_textgrid(render(transcript(duration=0.0), "textgrid")) == []
    assert parse_jsonl(render(result, "jsonl")) == []


def test_vtt_looks_as_the_standard_shows_it() -> None:
    result = transcript([Word("A", 3599.5, 3599.9, 1.0), Word("<B>", 3600.0, 3661.25, 1.0)])
    assert render(result, "vtt") == (
        "WEBVTT\n\n00:59:59.500 --> 00:59:59.917\nA\n\n01:00:00.000 --> 01:01:01.250\n&lt;B&gt;\n"
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/b c\td.flac", "b_c_d"), ("-", "stdin"), ("x.tar.wav", "x.tar"), (" y .wav", "y")],
)
def test_ctm_names_the_recording_in_one_field(path: str, name: str) -> None:
    result = transcript([Word("HI", 1.2346, 1.5, 0.5)], path=path)
    assert render(result, "ctm") == f"{name} 1 1.235 0.265 HI 0.500\n"


def test_textgrid_has_no_empty_or_overlapping_intervals() -> None:
    # As where the last frame of a piece begins at its very end.
    words = [Word("A", 0.0, 0.5, 1), Word("B", 0.4, 0.4, 1), Word("C", 1.0, 1.0, 1)]
    content = render(transcript(words), "textgrid")
    assert [word[:3] for word in parse_textgrid(content)] == [
        ("A", 0.0, 0.5),
        ("B", 0.5, 0.501),
        ("C", 1.0, 1.001),
    ]


def test_textgrid_doubles_quotation_marks() -> None:
    content = render(transcript([Word('"SO"', 0.0, 0.5, 1.0)]), "textgrid")
    assert '            text = """SO"""\n' in content


def test_a_cue_ends_after_it_starts() -> None:
    result = transcript([Word("A", 1.0, 1.0, 1.0)], [Word("B", 1.0, 1.0, 1.0)], duration=1.0)
    assert parse_srt(render(result, "srt")) == [("A", 1.0, 1.001), ("B", 1.0, 1.001)]


def cue_texts(*segments: list[Word], **rules: float | None) -> list[str]:
    return [text for text, _, _ in parse_srt(render(transcript(*segments), "srt", **rules))]


def test_two_lines_are_equally_long() -> None:
    text = "IT WAS THE BEST OF TIMES IT WAS THE WORST OF TIMES"
    assert cue_texts(spoken(text)) == ["IT WAS THE BEST OF TIMES\nIT WAS THE WORST OF TIMES"]
    assert cue_texts(spoken("FORTY TWO CHARACTERS MAKE JUST ONE LINES 42")) == [
        "FORTY TWO CHARACTERS\nMAKE JUST ONE LINES 42"
    ]
    assert cue_texts(spoken("FORTY TWO CHARACTERS MAKE JUST ONE LINE 42")) == [
        "FORTY TWO CHARACTERS MAKE JUST ONE LINE 42"
    ]


def test_cues_end_where_the_speaker_halts() -> None:
    first, second = spoken("ONE TWO THREE"), spoken("FOUR FIVE", start=3.0)
    assert cue_texts(first, second) == ["ONE TWO THREE", "FOUR FIVE"]
    assert cue_texts(first + second) == ["ONE TWO THREE", "FOUR FIVE"]
    assert cue_texts(first + spoken("FOUR FIVE", start=1.5)) == ["ONE TWO THREE FOUR FIVE"]


def test_a_long_stretch_is_parted_at_a_short_pause_and_leaves_no_word_alone() -> None:
    words = spoken(" ".join(["ABCDEFG"] * 11), seconds=0.25, gap=0.05)  # 87 characters
    assert [len(text.split()) for text in cue_texts(words)] in ([5, 6], [6, 5])
    late = [
        Word(word.word, word.start + 0.4 * (i >= 4), word.end + 0.4 * (i >= 4), 1.0)
        for i, word in enumerate(words)
    ]
    assert [len(text.split()) for text in cue_texts(late)] == [4, 7]


def test_words_per_line() -> None:
    words = spoken("A B C D E F G")
    assert cue_texts(words, words_per_line=1) == list("ABCDEFG")
    assert cue_texts(words, words_per_line=4) in (["A B C D", "E F G"], ["A B C", "D E F G"])
    assert cue_texts(words, words_per_line=100) == ["A B C D E F G"]


def test_a_word_longer_than_a_line_has_it_to_itself() -> None:
    long = "X" * 50
    lines = [line for text in cue_texts(spoken(f"A B {long} C")) for line in text.split("\n")]
    assert lines == ["A B", long, "C"]


def test_an_hour_is_cut_at_once() -> None:
    words = spoken(" ".join(["WORD"] * 9000))
    start = time.process_time()
    texts = cue_texts(words)
    assert time.process_time() - start < 20
    assert sum(len(text.split()) for text in texts) == 9000


@pytest.mark.parametrize("rules", [{"words_per_line": 0}, {"line_length": 0}])
def test_a_line_must_hold_a_word(rules: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at least one word"):
        CueRules(**rules)


def test_registry() -> None:
    assert set(renderers()) == set(FORMATS) >= JOINABLE
    assert [suffix(format) for format in ("txt", "textgrid")] == [".txt", ".TextGrid"]
    a, b = (transcript(spoken(text), path=f"{text}.wav") for text in ("A", "B"))
    assert len(parse_ctm(render(a, "ctm") + render(b, "ctm"))) == 2


def test_unsure_words_are_coloured() -> None:
    words = [Word(w, i, i + 1, c) for i, (w, c) in enumerate([("A", 0.9), ("B", 0.7), ("C", 0.2)])]
    text = coloured(transcript(words))
    assert text.plain == "A B C"
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(text, end="")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown == "A \x1b[33mB\x1b[0m \x1b[4;31mC\x1b[0m"


def test_formats_need_no_torch() -> None:
    script = (
        "import sys, asr.formats.registry; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("[]\n", "")
