"""Recordings to text: the same in any company, in order, whatever their length."""

import io
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from babble import SAMPLE_RATE, babbling_model, write_babbler, write_tones

from asr.audio import load_audio
from asr.decoding.alignment import Word, align_words
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.stitching import Words, stitch
from asr.errors import AudioError, BundleError, ConfigError
from asr.recordings import read_ahead
from asr.transcriber import Segment, Transcriber, Transcript, choose_device


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber(babbling_model(), torch.device("cpu"))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recordings")
    lengths = [1.0, 0.3, 12.0, 2.5, 45.0, 0.11, 7.0]
    return [write_tones(folder / f"{i}.wav", s, seed=i) for i, s in enumerate(lengths)]


def assert_same(left: object, right: object) -> None:
    assert isinstance(left, Transcript)
    assert isinstance(right, Transcript)
    assert (left.path, left.text, left.duration) == (right.path, right.text, right.duration)
    assert [(w.word, w.start, w.end) for w in left.words] == [
        (w.word, w.start, w.end) for w in right.words
    ]
    confidences = [word.confidence for word in left.words]
    assert confidences == pytest.approx([word.confidence for word in right.words], abs=1e-4)


def test_gives_what_model_and_decoder_give(
    transcriber: Transcriber, recordings: list[Path]
) -> None:
    model = babbling_model()
    waveform = torch.from_numpy(load_audio(recordings[2], SAMPLE_RATE))
    with torch.inference_mode():
        log_probs, lengths = model.log_probs_of(waveform[None], torch.tensor([len(waveform)]))
    [[best]] = GreedyDecoder(model.tokenizer).decode(log_probs, lengths)
    words = tuple(align_words(best, log_probs[0], model.tokenizer, model.frame_seconds))
    words = (*words[:-1], replace(words[-1], end=12.0))  # its last frame reaches beyond
    text = " ".join(best.text.split())
    assert len(words) > 3
    assert transcriber.transcribe(recordings[2]) == Transcript(
        str(recordings[2]), 12.0, text, (Segment(0.0, 12.0, text, words),)
    )


@pytest.mark.parametrize("batch_seconds", [0.5, 20, 1000])
def test_company_changes_nothing_and_order_is_kept(
    transcriber: Transcriber, recordings: list[Path], batch_seconds: float
) -> None:
    together = list(transcriber.transcribe_many(recordings, batch_seconds))
    assert [result.path for result in together if isinstance(result, Transcript)] == [
        str(path) for path in recordings
    ]
    for path, result in zip(recordings, together, strict=True):
        assert_same(result, transcriber.transcribe(path))


def test_log_probs_come_while_other_recordings_are_still_read(
    transcriber: Transcriber, recordings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = transcriber.log_probs_of(recordings)
    read: list[int] = []

    def noted(paths, *arguments, **settings):
        for number, item in enumerate(read_ahead(paths, *arguments, **settings)):
            read.append(number)
            yield item

    monkeypatch.setattr("asr.transcriber.read_ahead", noted)
    progress: list[tuple[int, float]] = []
    bit_by_bit = transcriber.log_probs_of(
        recordings, 2.0, lambda seconds: progress.append((len(read), seconds))
    )
    assert min(progress)[0] < len(read)
    assert sum(seconds for _, seconds in progress) == pytest.approx(67.91)
    for left, right in zip(at_once, bit_by_bit, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-4)  # type: ignore[arg-type]


def test_hotwords_are_a_list() -> None:
    with pytest.raises(ConfigError, match=r"hotwords are a list of words, such as \['Avonlea'\]"):
        Transcriber.load(hotwords="Avonlea")


def test_silence_is_progress_too(transcriber: Transcriber, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.wav" for i in range(3)]
    for path in paths:
        soundfile.write(path, np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    progress: list[float] = []
    assert all(not r.text for r in transcriber.transcribe_many(paths, on_progress=progress.append))
    assert sum(progress) == pytest.approx(3.0)


def test_failures_stand_in_their_place(transcriber: Transcriber, recordings: list[Path]) -> None:
    paths = [recordings[0], Path("missing.wav"), recordings[1]]
    first, second, third = transcriber.transcribe_many(paths)
    assert isinstance(first, Transcript)
    assert isinstance(second, AudioError)
    assert "missing.wav" in str(second)
    assert isinstance(third, Transcript)
    with pytest.raises(AudioError, match=r"missing\.wav"):
        transcriber.transcribe("missing.wav")


@pytest.mark.parametrize("samples", [1, 10, 3 * SAMPLE_RATE, 70 * SAMPLE_RATE])
@pytest.mark.parametrize("level", [0.0, 2**-15])
def test_silence_has_no_words(
    transcriber: Transcriber, tmp_path: Path, samples: int, level: float
) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.resize([level, -level], samples), SAMPLE_RATE)
    assert transcriber.transcribe(path) == Transcript(str(path), samples / SAMPLE_RATE, "", ())


def test_what_breaks_off_in_speech_holds_nobody_up(
    transcriber: Transcriber, recordings: list[Path], tmp_path: Path
) -> None:
    path = write_tones(tmp_path / "broken.wav", 130.0)
    waveform, rate = soundfile.read(path, dtype="float32")
    waveform[125 * rate] = np.nan
    soundfile.write(path, waveform, rate, subtype="FLOAT")
    broken, whole = transcriber.transcribe_many([path, recordings[0]])
    assert isinstance(broken, AudioError)
    assert "NaN" in str(broken)
    assert whole == transcriber.transcribe(recordings[0])


def test_a_single_loud_sample_has_no_words(transcriber: Transcriber, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "click.wav", np.array([0.9]), SAMPLE_RATE)
    assert transcriber.transcribe(tmp_path / "click.wav").text == ""


def test_long_audio_is_stitched_from_its_pieces(transcriber: Transcriber, tmp_path: Path) -> None:
    path = write_tones(tmp_path / "long.wav", 40.0, pause=25.0)
    whole = transcriber.transcribe(path)
    first, second = whole.segments
    assert 25.0 < first.end == second.start < 25.5
    assert (first.start, second.end, whole.duration) == (0.0, 40.0, 40.0)
    waveform = load_audio(path, SAMPLE_RATE)
    cut = round(first.end * SAMPLE_RATE)
    for segment, piece in [(first, waveform[:cut]), (second, waveform[cut:])]:
        soundfile.write(tmp_path / "piece.wav", piece, SAMPLE_RATE, subtype="FLOAT")
        alone = transcriber.transcribe(tmp_path / "piece.wav")
        assert segment.text == alone.text
        assert [word.start for word in segment.words] == pytest.approx(
            [segment.start + word.start for word in alone.words]
        )
    assert whole.text == f"{first.text} {second.text}"
    edges = [edge for word in whole.words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert edges[-1] <= 40.0


def test_results_come_before_all_is_read(transcriber: Transcriber, recordings: list[Path]) -> None:
    asked = 0

    def endless() -> Iterator[Path]:
        nonlocal asked
        while True:
            asked += 1
            yield recordings[0]

    results = transcriber.transcribe_many(endless(), batch_seconds=2.0)
    next(results)
    assert asked < 20
    results.close()  # type: ignore[attr-defined]


def test_batches_keep_their_size(recordings: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = babbling_model()
    shapes = []
    log_probs_of = model.log_probs_of

    def spy(waveforms: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shapes.append(waveforms.shape)
        return log_probs_of(waveforms, lengths)

    monkeypatch.setattr(model, "log_probs_of", spy)
    progress: list[float] = []
    transcriber = Transcriber(model, torch.device("cpu"))
    list(transcriber.transcribe_many([*recordings, *recordings], 10.0, progress.append))
    assert sum(batch for batch, _ in shapes) > 2 * len(recordings)  # the longest was cut
    assert all(batch == 1 or batch * time <= 10.0 * SAMPLE_RATE for batch, time in shapes)
    assert len(shapes) == len(progress) < 14
    assert sum(progress) == pytest.approx(2 * 67.91)


def test_reads_standard_input(
    transcriber: Transcriber, recordings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = SimpleNamespace(buffer=io.BytesIO(recordings[0].read_bytes()))
    monkeypatch.setattr("sys.stdin", stream)
    assert transcriber.transcribe("-").text == transcriber.transcribe(recordings[0]).text


def test_no_recordings_no_results(transcriber: Transcriber) -> None:
    assert list(transcriber.transcribe_many([])) == []


def test_batches_need_a_size(transcriber: Transcriber) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        list(transcriber.transcribe_many([], 0.0))


def test_a_full_gpu_is_explained(recordings: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = babbling_model()

    def fail(*_: torch.Tensor) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(model, "log_probs_of", fail)
    with pytest.raises(ConfigError, match="lower --batch-seconds"):
        Transcriber(model, torch.device("cpu")).transcribe(recordings[0])


def test_loads_a_bundle(tmp_path: Path, recordings: list[Path]) -> None:
    loaded = Transcriber.load(write_babbler(tmp_path / "babbler.asr"), device="cpu")
    assert loaded.sample_rate == SAMPLE_RATE
    assert loaded.transcribe(recordings[0]).text
    with pytest.raises(BundleError, match="no such model"):
        Transcriber.load(tmp_path / "none.asr")


@pytest.mark.parametrize("name", ["abacus", "cuda:99"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no device '{name}'"):
        choose_device(name)


def test_some_device_is_chosen() -> None:
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_speech_without_a_pause_is_stitched(
    transcriber: Transcriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tones(tmp_path / "long.wav", 100.0)
    overlaps = []

    def spy(left: Sequence[Word], right: Sequence[Word], cut: float) -> tuple[Words, Words]:
        overlaps.append((left[-1].end, cut, right[0].start))
        return stitch(left, right, cut)

    monkeypatch.setattr("asr.transcriber.stitch", spy)
    whole = transcriber.transcribe(path)
    assert len(overlaps) == len(whole.segments) - 1 >= 3
    for segment, (_, cut, _) in zip(whole.segments, overlaps, strict=False):
        assert segment.end == pytest.approx(cut, abs=0.5)  # as a word may lie across the cut
    for segment in whole.segments:
        assert segment.start <= segment.words[0].start
        assert segment.words[-1].end <= segment.end
    times = [time for segment in whole.segments for time in (segment.start, segment.end)]
    assert times == sorted(times)
    for end, cut, start in overlaps:  # both heard beyond the cut
        assert cut - 2.1 < start < cut - 1 < cut + 1 < end < cut + 2.1
    edges = [edge for word in whole.words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    # As many words as anywhere: none lost at the cuts, none doubled.
    starts = np.array([word.start for word in whole.words])
    counts = [np.sum(abs(starts - cut) < 2) for _, cut, _ in overlaps]
    assert np.mean(counts) == pytest.approx(len(starts) / 100 * 4, rel=0.25)


def test_segments_come_in_order_as_they_are_ready(
    transcriber: Transcriber, recordings: list[Path], tmp_path: Path
) -> None:
    paths = [*recordings, write_tones(tmp_path / "long.wav", 200.0), Path("missing.wav")]
    heard: list[tuple[int, Segment]] = []
    done: list[int] = []
    results = []
    for result in transcriber.transcribe_many(
        paths, 10.0, on_segment=lambda number, segment: heard.append((number, segment))
    ):
        results.append(result)
        done.append(len(heard))
    assert done[0] < done[-1]
    for number, result in enumerate(results[:-1]):
        assert isinstance(result, Transcript)
        segments = tuple(segment for place, segment in heard if place == number)
        assert segments == result.segments
        assert " ".join(segment.text for segment in segments) == result.text


MEMORY = """
import resource, sys, torch
from babble import babbling_model
from asr.transcriber import Transcriber
transcriber = Transcriber(babbling_model(), torch.device("cpu"))
for path in sys.argv[1:]:
    transcriber.transcribe_many([path], 10.0).__next__()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts kilobytes as Linux does")
def test_a_long_recording_takes_no_more_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = []
    for minutes in (2, 40):
        paths.append(tmp_path / f"{minutes}.wav")
        noise = rng.normal(0, 0.1, minutes * 60 * SAMPLE_RATE).astype(np.float32)
        soundfile.write(paths[-1], noise, SAMPLE_RATE)
    script = [sys.executable, "-c", MEMORY, *map(str, paths)]
    done = subprocess.run(script, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    short, long = map(int, done.stdout.split())
    assert long - short < 40_000  # the sound alone has 77 MB
