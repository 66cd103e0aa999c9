"""A recording seen step by step: the right part, the right words, nothing written over."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from babble import SAMPLE_RATE, babbling_model, write_babbler, write_tones
from matplotlib.figure import Figure
from matplotlib.image import imread
from typer.testing import CliRunner, Result

from asr.audio import load_audio
from asr.cli.main import app
from asr.decoding.alignment import Word
from asr.decoding.calibration import Calibration
from asr.errors import ConfigError
from asr.plots.inspection import Excerpt, Inspection, inspect_excerpt, read_excerpt
from asr.plots.inspection_figure import draw_inspection
from asr.plots.style import style
from asr.transcriber import Transcriber

RIVER = Path(__file__).parents[1] / "data" / "samples" / "river.wav"


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber(babbling_model(), torch.device("cpu"), calibration=Calibration(0.7, -0.2))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("inspect") / "tones.wav", 70.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_babbler(tmp_path_factory.mktemp("model") / "babbler.asr")


def invoke(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def draw(inspection: Inspection) -> Figure:
    with style():
        figure = draw_inspection(inspection, "title")
        figure.canvas.draw()
    return figure


@pytest.mark.parametrize("rate", [SAMPLE_RATE, 16_000])
@pytest.mark.parametrize("part", [(0.0, 1.0), (29.5, 30.5), (12.345, 65.0), (69.0, 80.0)])
def test_the_part_is_that_of_the_recording(
    recording: Path, part: tuple[float, float], rate: int
) -> None:
    start, end = part
    excerpt = read_excerpt(recording, rate, start, end)
    whole = load_audio(recording, rate)
    np.testing.assert_array_equal(excerpt.waveform, whole[round(start * rate) : round(end * rate)])
    assert (excerpt.start, excerpt.end) == pytest.approx((start, min(end, 70.0)), abs=1 / rate)
    assert excerpt.is_cut == (end < 70.0)


def test_a_part_that_ends_with_the_recording_is_not_cut(recording: Path) -> None:
    assert not read_excerpt(recording, SAMPLE_RATE, 60.0, 70.0).is_cut


def test_a_part_behind_the_end_is_refused(recording: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends at 70\.00 s"):
        read_excerpt(recording, SAMPLE_RATE, 70.0, 80.0)


def test_a_part_of_no_samples_is_refused(recording: Path) -> None:
    with pytest.raises(ConfigError, match=r"1 to 1\.00001 s is no part"):
        read_excerpt(recording, 16_000, 1.0, 1.00001)


def test_words_are_those_of_the_transcriber(
    transcriber: Transcriber, recording: Path, tmp_path: Path
) -> None:
    excerpt = read_excerpt(recording, SAMPLE_RATE, 40.0, 52.0)
    seen = inspect_excerpt(excerpt, transcriber)
    soundfile.write(tmp_path / "part.wav", excerpt.waveform, SAMPLE_RATE, subtype="FLOAT")
    heard = transcriber.transcribe(tmp_path / "part.wav")
    assert len(heard.words) > 3
    for word, expected in zip(seen.words, heard.words, strict=True):
        assert (word.word, word.confidence) == (expected.word, expected.confidence)
        assert (word.start, word.end) == pytest.approx((40 + expected.start, 40 + expected.end))


def test_steps_span_the_same_time(transcriber: Transcriber, recording: Path) -> None:
    seen = inspect_excerpt(read_excerpt(recording, SAMPLE_RATE, 3.0, 8.0), transcriber)
    np.testing.assert_allclose(seen.posteriors.sum(axis=1), 1, rtol=1e-4)
    for frames, step in (
        (len(seen.posteriors), seen.frame_seconds),
        (len(seen.log_mel), seen.mel_frame_seconds),
    ):
        assert frames * step == pytest.approx(5.0, abs=2 * step)
    assert seen.log_mel.shape[1] == transcriber.model.features_config.n_mels
    assert seen.mel_limits == (20.0, SAMPLE_RATE / 2)


def inspection(words: list[Word], seconds: float, alphabet: str = " ABC$") -> Inspection:
    rng = np.random.default_rng(0)
    frames = int(seconds / 0.04)
    return Inspection(
        excerpt=Excerpt(rng.random(int(seconds * 8000), np.float32), 8000, 5.0, False),
        log_mel=rng.random((4 * frames, 20), np.float32),
        mel_frame_seconds=0.01,
        mel_limits=(20.0, 4000.0),
        posteriors=rng.random((frames, 1 + len(alphabet)), np.float32),
        frame_seconds=0.04,
        symbols=alphabet,
        words=tuple(words),
    )


def test_rows_share_the_time_axis() -> None:
    words = [Word("A", 5.2, 5.6, 0.9), Word("B$C$", 6.0, 7.0, 0.3)]
    figure = draw(inspection(words, 3.0))
    waveform, log_mel, posteriors, bars = figure.axes
    assert {axes.get_xlim() for axes in figure.axes} == {(5.0, 8.0)}
    assert [label.get_text() for label in posteriors.get_yticklabels()] == [
        "blank", "space", "A", "B", "C", "$",
    ]  # fmt: skip
    assert [label.get_text() for label in log_mel.get_yticklabels()] == [
        "500",
        "1000",
        "2000",
        "4000",
    ]
    assert [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in bars.patches] == [
        pytest.approx((word.start, word.end - word.start, word.confidence)) for word in words
    ]
    assert bars.patches[0].get_facecolor() != bars.patches[1].get_facecolor()
    assert [text.get_text() for text in bars.texts] == ["A\n90%", "B$C$\n30%"]
    times, values = waveform.lines[0].get_data()
    assert (times[0], times[-1]) == pytest.approx((5.0, 8.0), abs=0.002)
    assert (values.min(), values.max()) == pytest.approx((0, 1), abs=1e-3)  # no peak is lost
    assert len(values) < 4000


def test_characters_that_never_come_up_are_not_shown() -> None:
    shown = inspection([], 3.0)
    shown.posteriors[:, 2] = 0.05
    _, _, posteriors, _ = draw(shown).axes
    assert "A" not in [label.get_text() for label in posteriors.get_yticklabels()]
    [image] = posteriors.images
    np.testing.assert_array_equal(image.get_array(), np.delete(shown.posteriors, 2, axis=1).T)


@pytest.mark.parametrize("seconds", [2.0, 20.0])
def test_words_are_not_written_over_each_other(seconds: float) -> None:
    rng = np.random.default_rng(1)
    words, now = [], 5.0
    while now < 5.0 + seconds - 0.3:
        end = now + rng.uniform(0.04, 0.25)
        words.append(Word("E" * int(rng.integers(1, 12)), now, end, rng.random()))
        now = end + rng.uniform(0.0, 0.3)
    figure = draw(inspection(words, seconds))
    boxes = [text.get_window_extent() for text in figure.axes[3].texts if text.get_visible()]
    assert len(boxes) > 0.9 * len(words)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    picture, row = figure.bbox, figure.axes[3].bbox
    assert all(picture.x0 <= box.x0 and box.x1 <= picture.x1 for box in boxes)
    assert all(row.y0 <= box.y0 and box.y1 <= row.y1 + 1 for box in boxes)
    assert picture.width == pytest.approx(1600 * max(1, seconds / 15))


def test_names_of_many_characters_are_kept_apart() -> None:
    alphabet = "".join(map(chr, range(0x410, 0x450)))  # 64 letters
    _, _, posteriors, _ = draw(inspection([], 3.0, alphabet)).axes
    boxes = [label.get_window_extent() for label in posteriors.get_yticklabels()]
    assert len(boxes) == 65
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def test_silence_is_drawn_without_words(transcriber: Transcriber) -> None:
    silence = Excerpt(np.zeros(8000, np.float32), SAMPLE_RATE, 0.0, False)
    shown = inspect_excerpt(silence, transcriber)
    assert len(draw(Inspection(**{**vars(shown), "words": ()})).axes) == 4
    short = Excerpt(np.zeros(1, np.float32), SAMPLE_RATE, 0.0, False)
    draw(inspect_excerpt(short, transcriber))


def test_inspect_draws_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("inspect", RIVER)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "river.inspect.png\n", "")
    picture = imread(tmp_path / "river.inspect.png")
    assert picture.shape[:2] == (1200, 1600)
    assert len(np.unique(picture.reshape(-1, 4), axis=0)) > 200


def test_inspect_takes_the_first_seconds_and_says_so(
    recording: Path, bundle: Path, tmp_path: Path
) -> None:
    output = tmp_path / "part.png"
    result = invoke("inspect", recording, "--model", bundle, "-o", output)
    assert result.exit_code == 0
    [line] = result.stderr.splitlines()
    assert "shown up to 15 s; --start and --end" in line
    assert imread(output).shape[1] == 1600
    result = invoke("inspect", recording, "-m", bundle, "-o", output, "--start", 2, "--end", 32)
    assert (result.exit_code, result.stderr) == (0, "")
    assert imread(output).shape[1] == 3200


def test_inspect_reads_standard_input(
    recording: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("inspect", "-", "-m", bundle, "--end", 1, stdin=recording.read_bytes())
    assert (result.exit_code, result.stdout) == (0, "stdin.inspect.png\n")


@pytest.mark.parametrize(
    "part",
    [
        ("--end", 0),
        ("--start", 3, "--end", 3),
        ("--start", -1),
        ("--end", 61),
        ("--start", "nan"),
        ("--start", 1e305),
    ],
)
def test_inspect_refuses_senseless_parts(recording: Path, part: tuple[object, ...]) -> None:
    assert invoke("inspect", recording, *part).exit_code == 2


def test_inspect_names_what_it_cannot_do(recording: Path, bundle: Path, tmp_path: Path) -> None:
    for arguments in (
        (tmp_path / "none.wav",),
        (recording, "--start", 100),
        (recording, "-o", tmp_path / "picture.doc"),
    ):
        result = invoke("inspect", *arguments, "-m", bundle)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.splitlines()[-1].startswith("asr: error: ")
