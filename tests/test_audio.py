import io
import itertools
import os
import shutil
import struct
import subprocess
import sys
import threading
import tracemalloc
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import noise, tone

from asr import audio
from asr.audio import AUDIO_SUFFIXES, audio_duration, iter_audio, load_audio, stated_duration
from asr.data.manifest import read_manifest
from asr.errors import AudioError, AudioWarning
from asr.text import CharTokenizer, normalise

INTEGER_FORMATS = [
    ("wav", "PCM_U8", 8),
    ("wav", "PCM_16", 16),
    ("wav", "PCM_24", 24),
    ("wav", "PCM_32", 24),
    ("flac", "PCM_16", 16),
    ("flac", "PCM_24", 24),
    ("aiff", "PCM_S8", 8),
    ("aiff", "PCM_16", 16),
    ("aiff", "PCM_24", 24),
]
LOSSY_FORMATS = [("ogg", "VORBIS"), ("opus", "OPUS"), ("mp3", "MPEG_LAYER_III")]
COMMON_FORMATS = [("wav", "PCM_16"), ("flac", "PCM_16"), ("aiff", "PCM_16"), *LOSSY_FORMATS]


@pytest.fixture(autouse=True)
def no_ffmpeg(request, monkeypatch):
    if "with_ffmpeg" not in request.fixturenames:
        monkeypatch.setattr(audio, "_ffmpeg_command", lambda path: [])


@pytest.fixture
def with_ffmpeg():
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")


def write(path, waveform, sample_rate=16_000, subtype=None):
    container = "OGG" if path.suffix == ".opus" else None
    soundfile.write(path, waveform, sample_rate, subtype=subtype, format=container)
    return path


def error_of(call, *args):
    with pytest.raises(AudioError) as caught:
        call(*args)
    message = str(caught.value)
    assert "\n" not in message
    assert ";" in message, "a remedy follows the problem"
    return message


def snr(signal, reference):
    """Return the signal-to-noise ratio in dB."""
    return 10 * np.log10(np.sum(reference**2) / np.sum((signal - reference) ** 2))


@pytest.mark.parametrize(("suffix", "subtype", "bits"), INTEGER_FORMATS)
def test_integer_formats_map_to_unit_range(tmp_path, suffix, subtype, bits):
    wave = np.concatenate([tone(), [-1.0, 0.0, 0.25, 0.5]]).astype(np.float32)
    result = load_audio(write(tmp_path / f"a.{suffix}", wave, subtype=subtype), 16_000)
    assert result.dtype == np.float32
    assert result.shape == wave.shape
    np.testing.assert_allclose(result, wave, atol=2.0 ** (1 - bits))


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("suffix", ["wav", "aiff"])
def test_float_formats_are_taken_as_they_are_even_beyond_one(tmp_path, suffix, subtype):
    wave = tone(level=3.0)
    path = write(tmp_path / f"a.{suffix}", wave, subtype=subtype)
    np.testing.assert_array_equal(load_audio(path, 16_000), wave)


@pytest.mark.parametrize(("suffix", "subtype"), LOSSY_FORMATS)
def test_lossy_formats_keep_the_signal_in_place(tmp_path, suffix, subtype):
    wave = tone(seconds=2.0) + tone(1234.0, seconds=2.0, level=0.2)
    result = load_audio(write(tmp_path / f"a.{suffix}", wave, subtype=subtype), 16_000)
    assert result.shape == wave.shape
    assert snr(result, wave) > 15  # one sample of delay alone would give about 14 dB


@pytest.mark.parametrize(("suffix", "subtype"), COMMON_FORMATS)
@pytest.mark.parametrize("level", [0.0, 0.5])
def test_channels_are_averaged(tmp_path, suffix, subtype, level):
    left, right = tone(300.0, level=0.4), tone(900.0, level=level)
    path = write(tmp_path / f"a.{suffix}", np.stack([left, right], axis=1), subtype=subtype)
    result = load_audio(path, 16_000)
    assert result.shape == left.shape
    assert snr(result, (left + right) / 2) > 10


def test_many_channels_are_averaged(tmp_path):
    channels = np.stack([noise(seed=seed) for seed in range(6)], axis=1)
    path = write(tmp_path / "a.wav", channels, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(path, 16_000), channels.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("target", [8000, 16_000])
def test_resampling_gives_the_same_tone_at_the_wanted_rate(tmp_path, rate, target):
    path = write(tmp_path / "a.wav", tone(1000.0, sample_rate=rate), rate, "FLOAT")
    result = load_audio(path, target)
    assert abs(len(result) - target) <= 1
    inner = slice(target // 10, -target // 10)  # the edges ring, since the tone starts abruptly
    expected = tone(1000.0, sample_rate=target)[: len(result)]
    np.testing.assert_allclose(result[inner], expected[inner], atol=1e-4)


def test_resampling_removes_what_the_wanted_rate_cannot_hold(tmp_path):
    path = write(tmp_path / "a.wav", tone(6000.0, sample_rate=48_000), 48_000, "FLOAT")
    result = load_audio(path, 8000)
    assert np.abs(result[800:-800]).max() < 1e-4


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_silence_stays_silent(tmp_path, rate):
    path = write(tmp_path / "a.flac", np.zeros(rate), rate)
    result = load_audio(path, 16_000)
    assert len(result) == 16_000
    assert not result.any()


@pytest.mark.parametrize("samples", [1, 2, 3, 10, 161])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
@pytest.mark.parametrize(("suffix", "subtype"), [("wav", "PCM_16"), ("flac", None), ("aiff", None)])
def test_very_short_files_give_at_least_one_sample(tmp_path, samples, rate, suffix, subtype):
    path = write(tmp_path / f"a.{suffix}", np.full(samples, 0.5), rate, subtype)
    result = load_audio(path, 16_000)
    assert abs(len(result) - samples * 16_000 / rate) <= 1
    assert len(result) >= 1
    assert np.isfinite(result).all()


@pytest.mark.parametrize(("suffix", "subtype"), COMMON_FORMATS)
def test_blocks_joined_are_the_whole(tmp_path, suffix, subtype):
    wave = np.stack([noise(2.0, 44_100), tone(seconds=2.0, sample_rate=44_100)], axis=1)
    rate = 48_000 if subtype == "OPUS" else 44_100
    path = write(tmp_path / f"a.{suffix}", wave, rate, subtype)
    whole = load_audio(path, 16_000)
    for seconds in (0.01, 0.3, 1.0):
        blocks = list(iter_audio(path, 16_000, seconds))
        assert max(len(block) for block in blocks) <= seconds * 16_000 + 4000
        np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)


def test_memory_stays_within_a_few_copies_of_the_result(tmp_path):
    rate, minutes = 44_100, 5
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", rate, 2, "PCM_16") as file:
        for _ in range(minutes):
            file.write(np.zeros((60 * rate, 2), dtype=np.int16))
    tracemalloc.start()
    result = load_audio(path, 16_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    for _ in iter_audio(path, 16_000, block_seconds=5.0):
        pass
    streaming_peak = tracemalloc.get_traced_memory()[1] - result.nbytes
    tracemalloc.stop()
    assert len(result) == 60 * minutes * 16_000
    block = 30 * rate * 2 * 4
    assert peak < 2.5 * result.nbytes + 3 * block
    assert streaming_peak < block


@pytest.mark.parametrize(("suffix", "subtype"), COMMON_FORMATS)
def test_duration_comes_from_the_header(tmp_path, monkeypatch, suffix, subtype):
    path = write(tmp_path / f"a.{suffix}", noise(1.5), subtype=subtype)
    monkeypatch.setattr(audio, "iter_audio", None)
    assert audio_duration(path) == pytest.approx(1.5, abs=1e-9)


def test_duration_of_bad_files(tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    write(tmp_path / "zero.wav", np.zeros(0))
    for name in ("text.wav", "zero.wav", "missing.wav", ""):
        assert str(tmp_path / name) in error_of(audio_duration, tmp_path / name)


def test_suffixes_are_lower_case_with_a_dot():
    assert {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".m4a"} <= AUDIO_SUFFIXES
    assert all(suffix == Path("a" + suffix).suffix.lower() for suffix in AUDIO_SUFFIXES)


def test_sample_clips_are_what_their_manifest_says():
    folder = Path(__file__).parents[1] / "data" / "samples"
    utterances = read_manifest(folder / "manifest.jsonl")
    clips = {path for path in folder.iterdir() if path.suffix in AUDIO_SUFFIXES}
    assert {utterance.audio for utterance in utterances} == clips
    assert {".wav", ".flac", ".ogg", ".opus", ".mp3"} == {path.suffix for path in clips}
    for utterance in utterances:
        assert utterance.text == normalise(utterance.text)
        assert not CharTokenizer().unknown([utterance.text])
        waveform = load_audio(utterance.audio, 16_000)
        assert len(waveform) == pytest.approx(utterance.duration * 16_000, abs=2)
        assert 0.2 < np.abs(waveform).max() < 1
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000


# Streams


class OneWay(io.RawIOBase):
    """A stream that cannot seek, as a pipe."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._data.readinto(memoryview(buffer)[:1000])


@pytest.mark.parametrize(("suffix", "subtype"), COMMON_FORMATS)
def test_standard_input(tmp_path, monkeypatch, suffix, subtype):
    path = write(tmp_path / f"a.{suffix}", noise(), subtype=subtype)
    stdin = SimpleNamespace(buffer=io.BufferedReader(OneWay(path.read_bytes())))
    monkeypatch.setattr(sys, "stdin", stdin)
    np.testing.assert_array_equal(load_audio("-", 16_000), load_audio(path, 16_000))


@pytest.mark.parametrize("content", [b"", b"this is text\n" * 100])
def test_standard_input_without_sound(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert error_of(load_audio, "-", 16_000).startswith("standard input: ")


def test_no_room_for_the_copy_of_a_stream_is_no_fault_of_the_recording(monkeypatch, tmp_path):
    stream = io.BytesIO(write(tmp_path / "a.wav", noise()).read_bytes())
    monkeypatch.setattr(audio.tempfile, "tempdir", str(tmp_path / "gone"))
    told = error_of(load_audio, stream, 16_000)
    assert told.startswith("audio stream: no temporary file can be written (No such file")
    if Path("/dev/full").exists():
        monkeypatch.setattr(audio.tempfile, "tempdir", None)
        monkeypatch.setattr(audio.Path, "open", lambda *_, **__: io.FileIO("/dev/full", "w"))
        told = error_of(load_audio, stream, 16_000)
        assert "no temporary file can be written (No space left" in told


def test_open_files_and_byte_streams(tmp_path):
    path = write(tmp_path / "a.flac", noise())
    expected = load_audio(path, 16_000)
    with path.open("rb") as file:
        np.testing.assert_array_equal(load_audio(file, 16_000), expected)
    np.testing.assert_array_equal(load_audio(io.BytesIO(path.read_bytes()), 16_000), expected)
    assert error_of(load_audio, io.BytesIO(b""), 16_000).startswith("audio stream: ")


def test_a_path_object_named_dash_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wave = write(tmp_path / "a.wav", noise())
    wave.rename(tmp_path / "-")
    assert len(load_audio(Path("-"), 16_000)) == 16_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_named_pipe(tmp_path):
    path = write(tmp_path / "a.flac", noise())
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()))
    writer.start()
    result = load_audio(pipe, 16_000)
    writer.join()
    np.testing.assert_array_equal(result, load_audio(path, 16_000))


def test_streamed_wav_header_of_unknown_size_is_no_damage(tmp_path):
    path = write(tmp_path / "a.wav", noise())
    data = path.read_bytes()
    for size in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000):
        field = struct.pack("<I", size)
        path.write_bytes(data[:4] + field + data[8:40] + field + data[44:])
        assert len(load_audio(path, 16_000)) == 16_000


def test_streamed_flac_of_unknown_length(tmp_path):
    path = write(tmp_path / "a.flac", noise())
    expected = load_audio(path, 16_000)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # STREAMINFO's 36-bit number of samples: 0 means unknown
    data[22:26] = bytes(4)
    path.write_bytes(data)
    np.testing.assert_array_equal(load_audio(path, 16_000), expected)
    assert audio_duration(path) == pytest.approx(1.0)


# Files cut short


@pytest.mark.parametrize(("suffix", "subtype"), COMMON_FORMATS)
@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.77, 0.9, 0.96])
def test_cut_file_gives_its_readable_part_and_a_warning(tmp_path, suffix, subtype, share):
    wave = noise(5.0) + tone(seconds=5.0)
    path = write(tmp_path / f"a.{suffix}", wave, subtype=subtype)
    whole = load_audio(path, 16_000)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            part = load_audio(path, 16_000)
        except AudioError as error:
            assert share <= 0.3, error
            assert str(error).startswith(str(path))
            return
    (warning,) = caught
    assert warning.category is AudioWarning
    assert str(warning.message).startswith(f"{path}: cut short")
    assert "\n" not in str(warning.message)
    assert 0 < len(part) < len(whole)
    assert len(part) >= share * len(whole) - 2.1 * 16_000  # an Ogg page may hold 2 s
    sound = max(0, len(part) - 2000)  # a codec may fade out where the data end
    np.testing.assert_allclose(part[:sound], whole[:sound], atol=1e-4)


@pytest.mark.parametrize(("suffix", "subtype"), COMMON_FORMATS)
def test_cut_standard_input_warns_too(tmp_path, monkeypatch, suffix, subtype):
    path = write(tmp_path / f"a.{suffix}", noise(5.0), subtype=subtype)
    data = path.read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data[: len(data) // 2])))
    with pytest.warns(AudioWarning, match="^standard input: cut short"):
        load_audio("-", 16_000)


@pytest.mark.parametrize("container", ["WAVEX", "RF64"])
def test_other_chunks_do_not_look_like_a_cut(tmp_path, container):
    path = tmp_path / "a.wav"
    with soundfile.SoundFile(path, "w", 16_000, 1, "PCM_16", format=container) as file:
        file.title = "an odd title"
        file.write(noise())
    path.write_bytes(path.read_bytes() + b"trailing bytes")
    assert len(load_audio(path, 16_000)) == 16_000


def test_cut_is_found_behind_a_chunk_of_odd_size(tmp_path):
    path = write(tmp_path / "a.wav", noise())
    data = path.read_bytes()
    data = data[:12] + struct.pack("<4sI", b"junk", 3) + b"abc\0" + data[12:]
    path.write_bytes(data)
    assert len(load_audio(path, 16_000)) == 16_000
    path.write_bytes(data[:-8000])
    with pytest.warns(AudioWarning, match="cut short; only 0.75 s"):
        assert len(load_audio(path, 16_000)) == 12_000


def test_chunk_size_that_points_before_the_file_prints_no_traceback(tmp_path, capfd):
    path = write(tmp_path / "a.aiff", noise())
    data = bytearray(path.read_bytes())
    data[38:46] = struct.pack(">4sI", b"SSNg", 0x85826D6B)  # in place of the SSND chunk
    path.write_bytes(data[:5000])
    error_of(load_audio, path, 16_000)
    assert capfd.readouterr().err == ""


def mp3_frames(sound):
    """Return the offsets of all frames of an MPEG-1 or MPEG-2 layer III stream."""
    rates = {3: [44_100, 48_000, 32_000], 2: [22_050, 24_000, 16_000]}
    kbits = {
        3: [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
        2: [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
    }
    offsets, at = [], 0
    while at + 4 <= len(sound) and sound[at] == 0xFF:
        version = sound[at + 1] >> 3 & 3
        bits = kbits[version][sound[at + 2] >> 4] * 1000
        rate = rates[version][sound[at + 2] >> 2 & 3]
        offsets.append(at)
        at += (144 if version == 3 else 72) * bits // rate + (sound[at + 2] >> 1 & 1)
    return offsets


def test_mp3_that_goes_on_after_what_its_header_tells_is_not_silently_short(tmp_path):
    one = write(tmp_path / "one.mp3", noise(3.0))
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(one.read_bytes() * 3)
    with pytest.warns(AudioWarning, match="only 3.00 s"):
        assert len(load_audio(joined, 16_000)) == 48_000


def test_variable_rate_mp3_without_length_header_is_not_silently_short(tmp_path):
    wave = np.concatenate([noise(2.0, 48_000), np.zeros(20 * 48_000)])
    path = tmp_path / "a.mp3"
    soundfile.write(path, wave, 48_000, compression_level=0.5, bitrate_mode="VARIABLE")
    data = path.read_bytes()
    frames = mp3_frames(data)
    assert b"Xing" in data[: frames[1]]
    # Begins with the largest frames, so that a guess from the first bit rate comes out short.
    path.write_bytes(data[frames[20] :])
    with pytest.warns(AudioWarning, match="MP3 header tells less"):
        assert len(load_audio(path, 16_000)) < 15 * 16_000


ID3V1 = b"TAG" + b"title".ljust(125, b"\0")
APE_FOOT = b"APETAGEX" + struct.pack("<4I", 2000, 20_032, 1, 2**31) + bytes(8)
APE = APE_FOOT + bytes(20_000) + APE_FOOT  # its head looks like its foot
ID3V2 = b"ID3\3\0\0" + bytes([0, 1, 28, 0]) + bytes((1 << 14) + (28 << 7))


@pytest.mark.parametrize("seconds", [0.5, 10.0])
@pytest.mark.parametrize("states_length", [True, False])
@pytest.mark.parametrize(("head", "tail"), [(b"", ID3V1), (b"", APE), (ID3V2, APE + ID3V1)])
def test_mp3_with_tags_is_whole(tmp_path, head, tail, states_length, seconds):
    path = tmp_path / "a.mp3"
    constant = {"bitrate_mode": "CONSTANT", "compression_level": 0.5}
    soundfile.write(path, noise(seconds), 16_000, **constant)
    sound = path.read_bytes()
    whole = len(load_audio(path, 16_000))
    if not states_length:
        start = mp3_frames(sound)[1]
        assert b"Info" in sound[:start]
        sound = sound[start:]
    path.write_bytes(head + sound + tail)
    assert len(load_audio(path, 16_000)) == pytest.approx(whole, abs=0 if states_length else 2400)
    assert stated_duration(path) == pytest.approx(seconds, abs=0.15)


@pytest.mark.parametrize("good", [10.0, 45.0])  # less than a block, and more
def test_mp3_is_read_up_to_the_damage(tmp_path, good):
    path = write(tmp_path / "a.mp3", noise(good + 5.0))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * good / (good + 5.0))].ljust(len(data), b"\0"))
    with pytest.warns(AudioWarning, match="cut short or damaged"):
        assert len(load_audio(path, 16_000)) == pytest.approx(good * 16_000, abs=0.6 * 16_000)


@pytest.mark.parametrize("suffix", ["ogg", "opus"])
def test_ogg_streams_one_after_another_are_not_silently_short(tmp_path, suffix):
    first, second = (write(tmp_path / f"{s}.{suffix}", noise(s)) for s in (3.0, 2.0))
    first.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.warns(AudioWarning, match="holds several streams one after another"):
        assert len(load_audio(first, 16_000)) == 48_000


@pytest.mark.parametrize("suffix", ["rf64", "w64", "au", "sph", "voc"])
def test_other_formats_warn_of_a_cut_too(tmp_path, suffix):
    formats = {"sph": "NIST", "voc": "VOC"}
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(4.0), 16_000, "PCM_16", format=formats.get(suffix))
    assert len(load_audio(path, 16_000)) == 64_000  # without a warning
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.warns(AudioWarning, match="cut short; only (1.9|2.0)"):
        load_audio(path, 16_000)


def test_wav_that_goes_on_after_what_its_header_tells_is_not_silently_short(tmp_path):
    path = write(tmp_path / "a.wav", noise(4.0))
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", 32_000)
    path.write_bytes(data)
    with pytest.warns(AudioWarning, match="header tells less than the file holds"):
        assert len(load_audio(path, 16_000)) == 16_000


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_wav_whose_recorder_never_wrote_the_sizes_is_read(tmp_path, subtype):
    path = write(tmp_path / "a.wav", noise(3.0), subtype=subtype)
    expected = load_audio(path, 16_000)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = bytes(4)
    path.write_bytes(data)
    np.testing.assert_array_equal(load_audio(path, 16_000), expected)
    assert stated_duration(path) == 3.0


def test_wav_without_samples_does_not_play_its_metadata(tmp_path):
    path = write(tmp_path / "a.wav", np.zeros(0))
    path.write_bytes(path.read_bytes() + struct.pack("<4sI", b"LIST", 400) + bytes(400))
    assert f"{path}: holds no sound" in error_of(load_audio, path, 16_000)


# Files that hold no usable sound


def test_missing_file(tmp_path):
    message = error_of(load_audio, tmp_path / "no.wav", 16_000)
    assert message == f"{tmp_path / 'no.wav'}: no such file; check the path"


@pytest.mark.parametrize("name", ["a\0b.wav", "a\ud800b.wav"], ids=["NUL", "surrogate"])
def test_a_name_that_no_file_can_have(tmp_path, name):
    path = tmp_path / name
    for call in (audio_duration, lambda path: load_audio(path, 16_000)):
        assert error_of(call, path) == f"{path}: no such file; check the path"
    assert audio.stated_duration(path) is None


def test_folder(tmp_path):
    assert f"{tmp_path}: is a folder" in error_of(load_audio, tmp_path, 16_000)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "opus", "m4a", ""])
def test_empty_file(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.touch()
    assert f"{path}: the file is empty" in error_of(load_audio, str(path), 16_000)


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"plain text, no sound\n" * 100,
        bytes(10_000),
        bytes(range(256)) * 40,
        b"RIFF",
        b"OggS",
    ],
)
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "aiff", "txt", "raw", "vox", ""])
def test_file_that_is_no_sound(tmp_path, content, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    message = error_of(load_audio, path, 16_000)
    assert message.startswith(f"{path}: ")
    assert "install ffmpeg" in message


@pytest.mark.parametrize("suffix", ["wav", "aiff", "ogg", "au"])
def test_file_without_samples(tmp_path, suffix):
    path = write(tmp_path / f"a.{suffix}", np.zeros(0))
    assert f"{path}: holds no sound" in error_of(load_audio, path, 16_000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, -3e38])
@pytest.mark.parametrize("at", [0, 7000, -1])
@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_that_are_no_numbers(tmp_path, value, at, rate, channels):
    wave = np.stack([noise(1.0, rate).astype(np.float64)] * channels, axis=1)
    wave[at] = value
    path = write(tmp_path / "a.wav", wave, rate, "DOUBLE")
    assert f"{path}: holds samples that are NaN" in error_of(load_audio, path, 16_000)


def test_unscaled_integers_in_a_float_file_are_kept(tmp_path):
    path = write(tmp_path / "a.wav", 32_767 * tone(), subtype="FLOAT")
    np.testing.assert_allclose(load_audio(path, 16_000), 32_767 * tone(), rtol=1e-6)


def test_unreadable_file(tmp_path):
    path = write(tmp_path / "a.wav", noise())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    assert f"{path}: cannot be read" in error_of(load_audio, path, 16_000)


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(5, "I/O error")]
)
def test_operating_system_errors(tmp_path, monkeypatch, error):
    path = write(tmp_path / "a.wav", noise())

    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(io, "FileIO", refuse)
    expected = f"{path}: cannot be read ({error.strerror}); check its permissions"
    assert error_of(load_audio, path, 16_000) == expected
    assert error_of(audio_duration, path) == expected


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(COMMON_FORMATS),
    cut=st.floats(0.0, 1.0),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=5),
)
def test_damaged_files_give_sound_or_one_error(tmp_path_factory, kind, cut, edits):
    suffix, subtype = kind
    path = tmp_path_factory.getbasetemp() / f"damaged.{suffix}"
    write(path, noise(0.5), subtype=subtype)
    data = bytearray(path.read_bytes())
    del data[int(cut * len(data)) + 1 :]
    for where, new in edits:
        start = int(where**3 * len(data))  # headers most of all
        data[start : start + len(new)] = new
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)
        try:
            result = load_audio(path, 16_000)
        except AudioError as error:
            assert str(error).startswith(str(path))
            assert "\n" not in str(error)
        else:
            assert result.dtype == np.float32
            assert len(result) >= 1
            assert np.isfinite(result).all()


# ffmpeg


def stand_in(monkeypatch, script):
    """Let a Python script that sees the path as sys.argv[1] take the place of ffmpeg."""
    command = [sys.executable, "-c", script]
    monkeypatch.setattr(audio, "_ffmpeg_command", lambda path: [*command, str(path)])


AU = """
import struct, sys
data = open(sys.argv[1], "rb").read()[4:]
out = sys.stdout.buffer
out.write(b".snd" + struct.pack(">5I", 32, 0xFFFFFFFF, 6, 8000, 2) + b"comment.")
out.write(data)
"""


def alien_file(tmp_path, seconds=2.0):
    """Write a file that only the stand-in reads; return its path and its samples."""
    stereo = np.stack([tone(300.0, seconds, 8000), tone(500.0, seconds, 8000)], axis=1)
    path = tmp_path / "a.alien"
    path.write_bytes(b"alien"[:4] + stereo.astype(">f4").tobytes())
    return path, stereo


def test_what_ffmpeg_may_open(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    command = audio._ffmpeg_input(Path("-a b.m4a"))
    limits = dict(itertools.pairwise(command[:-2]))
    assert limits["-protocol_whitelist"] == "file" and "-nostdin" in command
    formats = set(limits["-format_whitelist"].split(","))
    assert "mov" in formats and not formats & {"hls", "dash", "concat", "concatf", "sdp", "rtsp"}
    assert command[-2:] == ["-i", "file:-a b.m4a"]


def test_other_formats_go_through_ffmpeg(tmp_path, monkeypatch):
    path, stereo = alien_file(tmp_path)
    stand_in(monkeypatch, AU)
    np.testing.assert_allclose(load_audio(path, 8000), stereo.mean(axis=1), atol=1e-6)
    assert len(load_audio(path, 16_000)) == 32_000
    assert audio_duration(path) == pytest.approx(2.0)
    blocks = list(iter_audio(path, 8000, block_seconds=0.5))
    assert [len(block) for block in blocks] == [4000] * 4
    with path.open("rb") as stream:
        np.testing.assert_array_equal(load_audio(stream, 8000), np.concatenate(blocks))


def test_stopping_early_ends_ffmpeg(tmp_path, monkeypatch):
    path, _ = alien_file(tmp_path)
    endless = AU + "\nwhile True: out.write(data)"
    stand_in(monkeypatch, endless)
    blocks = iter_audio(path, 8000, block_seconds=0.5)
    assert len(next(blocks)) == 4000
    blocks.close()  # would hang, were the process left to run


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for a single process")
def test_ctrl_c_does_not_cut_a_recording_that_a_server_finishes(tmp_path, monkeypatch):
    """A terminal sends it to ffmpeg, too."""
    path, _ = alien_file(tmp_path)
    stand_in(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGINT)" + AU)
    assert len(load_audio(path, 8000)) == 16_000


@pytest.mark.parametrize("ending", ["sys.exit(1)", "print('broken', file=sys.stderr)"])
def test_what_ffmpeg_complains_of_is_a_warning_if_there_is_sound(tmp_path, monkeypatch, ending):
    path, _ = alien_file(tmp_path)
    stand_in(monkeypatch, f"{AU}\nout.write(b'xyz')\n{ending}")
    with pytest.warns(AudioWarning, match="cut short or damaged; only 2.00 s"):
        assert len(load_audio(path, 8000)) == 16_000


@pytest.mark.parametrize("script", ["", "print('.snd')", "import sys; sys.exit('no audio' * 9999)"])
def test_ffmpeg_finds_no_sound(tmp_path, monkeypatch, script):
    path = tmp_path / "a.txt"
    path.write_text("text")
    stand_in(monkeypatch, script)
    assert f"{path}: neither libsndfile nor ffmpeg" in error_of(load_audio, path, 16_000)


@pytest.mark.parametrize("suffix", ["m4a", "webm", "wma", "mka"])
def test_real_ffmpeg(tmp_path, with_ffmpeg, suffix):
    wave = tone(seconds=2.0)
    path = tmp_path / f"-a b's %d.{suffix}"
    source = write(tmp_path / "a.wav", wave)
    command = ["ffmpeg", "-v", "error", "-i", str(source), f"file:{path}"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    result = load_audio(path, 16_000)
    assert abs(len(result) - len(wave)) < 2000
    inner = result[4000:-4000]
    spectrum = np.abs(np.fft.rfft(inner * np.hanning(len(inner))))
    assert np.argmax(spectrum) * 16_000 / len(inner) == pytest.approx(440, abs=2)
    assert inner.std() == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    assert audio_duration(path) == pytest.approx(2.0, abs=0.13)


def test_real_ffmpeg_and_files_without_sound(tmp_path, with_ffmpeg):
    path = tmp_path / "a.txt"
    path.write_text("text, no sound\n" * 100)
    assert f"{path}: neither libsndfile nor ffmpeg" in error_of(load_audio, path, 16_000)


PLAYLIST = """<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"
mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">
<Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="64000">
<BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>"""


def test_real_ffmpeg_opens_no_playlist(tmp_path, with_ffmpeg):
    source, private = write(tmp_path / "a.wav", tone()), tmp_path / "private.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, private], check=True)
    playlist = tmp_path / "upload"
    playlist.write_text(PLAYLIST.format(private))
    assert f"{playlist}: neither libsndfile nor ffmpeg" in error_of(load_audio, playlist, 16_000)


def test_the_length_is_not_looked_for_beyond_the_most(tmp_path, monkeypatch):
    stand_in(monkeypatch, AU.replace("out.write(data)", "while True: out.write(bytes(2**20))"))
    path = tmp_path / "endless.mp4"
    path.write_bytes(b"film")
    assert 90 < audio_duration(path, most=90.0) < 300


# stated_duration


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_header_states_the_duration(tmp_path, suffix):
    path = tmp_path / f"tone{suffix}"
    soundfile.write(path, tone(seconds=2.5), 16_000)
    assert audio.stated_duration(path) == pytest.approx(2.5, abs=0.1)


def test_what_has_no_header_states_nothing(tmp_path):
    (tmp_path / "noise.wav").write_bytes(b"no sound")
    assert audio.stated_duration(tmp_path / "noise.wav") is None
    assert audio.stated_duration(tmp_path / "gone.wav") is None
    assert audio.stated_duration("-") is None
    assert audio.stated_duration("x" * 300) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_left_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert audio.stated_duration(tmp_path / "pipe") is None


def test_ffmpeg_states_the_duration(tmp_path, monkeypatch):
    script = "import sys; sys.exit('  Duration: 01:02:03.50, start: 0.000000, bitrate: 64 kb/s')"
    monkeypatch.setattr(audio, "_ffmpeg_input", lambda path: [sys.executable, "-c", script])
    (tmp_path / "film.mp4").write_bytes(b"film")
    assert audio.stated_duration(tmp_path / "film.mp4") == 3723.5
