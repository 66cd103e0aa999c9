"""Recordings come in order, in pieces, and not sooner than they are needed."""

import os
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile
from babble import SAMPLE_RATE, write_tones

from asr import recordings
from asr.audio import load_audio
from asr.errors import AudioError, AudioWarning
from asr.recordings import BLOCKS, READ_AHEAD, read_ahead
from asr.segmentation import Segmenter

BLOCK_SECONDS = 30


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return seven minutes of sound."""
    return write_tones(tmp_path_factory.mktemp("long") / "long.wav", 420.0)


def test_a_long_recording_comes_bit_by_bit(long: Path) -> None:
    segmenter = Segmenter(SAMPLE_RATE)
    expected = segmenter.add(load_audio(long, SAMPLE_RATE)) + segmenter.finish()
    found, durations = [], []
    for recording, pieces in read_ahead([long], SAMPLE_RATE):
        found += pieces
        durations.append(recording.is_read)
    assert durations == [False, False, False, True]
    assert recording.duration == 420.0
    assert [(p.start, p.begin, p.end) for p in found] == [
        (p.start, p.begin, p.end) for p in expected
    ]


def test_pieces_do_not_hold_what_is_beside_them(long: Path) -> None:
    for _, pieces in read_ahead([long], SAMPLE_RATE):
        assert all(piece.waveform.base is None for piece in pieces)


def test_only_a_little_is_read_ahead(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0

    def counted(*arguments, **settings):
        nonlocal read
        for block in iter_audio(*arguments, **settings):
            read += 1
            yield block

    iter_audio = recordings.iter_audio
    monkeypatch.setattr(recordings, "iter_audio", counted)
    with closing(read_ahead([long] * 20, SAMPLE_RATE)) as reading:
        next(reading)
    assert read <= (READ_AHEAD + 2) * BLOCKS


def test_order_and_errors(long: Path, tmp_path: Path) -> None:
    short = write_tones(tmp_path / "short.wav", 1.0)
    (tmp_path / "bad.wav").write_text("no sound")
    paths = [short, tmp_path / "gone.wav", long, tmp_path / "bad.wav", short]
    seen = []
    for recording, _ in read_ahead(paths, SAMPLE_RATE):
        if recording.is_read:
            seen.append((recording.path, recording.duration, type(recording.error)))
    failed = [AudioError if path in (paths[1], paths[3]) else type(None) for path in paths]
    durations = [1.0, 0.0, 420.0, 0.0, 1.0]
    assert seen == list(zip(map(str, paths), durations, failed, strict=True))


def test_damage_in_the_middle_is_an_error(tmp_path: Path) -> None:
    waveform = np.zeros(200 * SAMPLE_RATE, np.float32)
    waveform[190 * SAMPLE_RATE] = np.nan
    soundfile.write(tmp_path / "nan.wav", waveform, SAMPLE_RATE, "FLOAT")
    *_, (recording, pieces) = read_ahead([tmp_path / "nan.wav"], SAMPLE_RATE)
    assert (recording.is_read, pieces) == (True, [])
    assert "NaN" in str(recording.error)


def test_a_recording_knows_that_it_is_cut_short(tmp_path: Path) -> None:
    path = write_tones(tmp_path / "cut.wav", 2.0)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.warns(AudioWarning) as warned:
        [(cut, _)] = read_ahead([path], SAMPLE_RATE)
    assert cut.warning == str(warned[0].message)
    assert cut.warning.startswith(f"{path}: cut short")
    path.write_bytes(content)
    [(whole, _)] = read_ahead([path], SAMPLE_RATE)
    assert whole.warning is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipes_are_waited_for_where_ctrl_c_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = {}

    def noted(path, *arguments, **settings):
        readers[path] = threading.current_thread()
        yield from iter_audio(path, *arguments, **settings)

    iter_audio = recordings.iter_audio
    monkeypatch.setattr(recordings, "iter_audio", noted)
    file, pipe = write_tones(tmp_path / "a.wav", 1.0), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(file.read_bytes()))
    with closing(read_ahead([file, pipe], SAMPLE_RATE)) as reading:
        first, _ = next(reading)  # does not wait for the pipe
        writer.start()
        second, _ = next(reading)
    writer.join()
    assert (first.duration, second.duration) == (1.0, 1.0)
    assert readers[pipe] is threading.current_thread() is not readers[file]


def test_whole_recordings(long: Path) -> None:
    *_, (recording, [piece]) = read_ahead([long], SAMPLE_RATE, whole=True)
    np.testing.assert_array_equal(piece.waveform, load_audio(long, SAMPLE_RATE))
    assert recording.is_read
