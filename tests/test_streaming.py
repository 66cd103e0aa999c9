"""Chunked encoding beside the offline one, and text from a stream."""

import math
import subprocess
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import soundfile
import torch
from babble import babbling_model
from signals import noise
from tones import SAMPLE_RATE, speak

from asr.decoding.hypothesis import Hypothesis
from asr.decoding.rescoring import Rescorer, RescoringDecoder
from asr.errors import ConfigError
from asr.features import FeatureConfig
from asr.models.ctc import CtcModel
from asr.models.encoder import EncoderConfig
from asr.streaming import ChunkedEncoder, Chunking, Event, Statistics, Stream
from asr.stretches import LEAD_SECONDS
from asr.transcriber import Transcriber, choose_device

STEP = 160
PAUSE = np.zeros(SAMPLE_RATE, np.float32)
SPEECH = np.concatenate([speak("ABCDCBAD" * 3), PAUSE, speak("DDAACC" * 3, seed=1), PAUSE])


def small_model(features: FeatureConfig, encoder: EncoderConfig) -> CtcModel:
    torch.manual_seed(0)
    model = CtcModel(features, encoder, " ABCD").eval()
    for parameter in model.parameters():
        parameter.data.mul_(2)  # so that frames differ
    return model


def offline(model: CtcModel, waveform: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return model.log_probs_of(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))[
            0
        ][0]


def chunked(model: CtcModel, waveform: np.ndarray, chunking: Chunking) -> torch.Tensor:
    encoder = ChunkedEncoder(model, chunking)
    for end in range(STEP, len(waveform), STEP):
        if end >= encoder.wanted:
            encoder.advance(waveform[:end])
    encoder.advance(waveform, is_last=True)
    return encoder.log_probs


@pytest.mark.parametrize("normalisation", ["utterance", "global", "none"])
@pytest.mark.parametrize("samples", [1, 399, 8000, 12_345])
def test_one_chunk_that_holds_all_is_the_offline_result(normalisation: str, samples: int) -> None:
    features = FeatureConfig(sample_rate=8000, n_mels=20, normalisation=normalisation)  # type: ignore[arg-type]
    model = small_model(features, EncoderConfig(hidden_size=8, num_layers=2))
    waveform = speak("ABCD" * 5)[:samples]
    torch.testing.assert_close(
        chunked(model, waveform, Chunking(chunk=30)), offline(model, waveform), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("subsampling", [2, 3, 4])
@pytest.mark.parametrize("deltas", [0, 2])
def test_chunks_of_a_causal_model_are_the_offline_result(subsampling: int, deltas: int) -> None:
    """Nothing is lost at the seams where the encoder needs next to no look-ahead."""
    features = FeatureConfig(
        kind="mfcc", sample_rate=8000, n_mels=20, n_mfcc=10, deltas=deltas, normalisation="none"
    )  # type: ignore[arg-type]
    encoder = EncoderConfig(
        bidirectional=False,
        hidden_size=8,
        num_layers=2,
        subsampling=subsampling,  # type: ignore[arg-type]
    )
    model = small_model(features, encoder)
    waveform = speak("ABCD" * 5)[:16_001]
    expected = offline(model, waveform)
    actual = chunked(model, waveform, Chunking(0.3, look_ahead=0.2, left_context=30))
    torch.testing.assert_close(actual, expected, atol=1e-3, rtol=1e-3)
    blind = chunked(model, waveform, Chunking(0.3, look_ahead=0.2, left_context=0))
    assert (blind - expected).abs().max() > 0.01


def test_what_was_heard_before_counts_as_a_second() -> None:
    model = babbling_model()
    config = model.features_config
    before = Statistics(
        torch.linspace(-9, -2, config.n_features, dtype=torch.float64),
        torch.linspace(90, 40, config.n_features, dtype=torch.float64),
    )
    waveform = speak("ABCDCBADAABB")
    encoder = ChunkedEncoder(model, Chunking(30), before)
    encoder.advance(waveform, is_last=True)
    with torch.inference_mode():
        lengths = torch.tensor([len(waveform)])
        features, frames = model.feature_extractor(torch.from_numpy(waveform)[None], lengths)
        prior = round(1 / config.frame_seconds)
        weights = torch.tensor([1.0] * int(frames) + [prior])
        means = torch.cat([features[0].double(), before.mean[None]])
        squares = torch.cat([features[0].double().square(), before.square[None]])
        mean = (weights[:, None] * means).sum(0) / weights.sum()
        variance = (weights[:, None] * squares).sum(0) / weights.sum() - mean.square()
        normalised = ((features - mean) / (variance + 1e-5).sqrt()).float()
        expected = model(normalised, frames)[0][0]
    torch.testing.assert_close(encoder.log_probs, expected, atol=1e-2, rtol=1e-3)
    assert encoder.statistics
    torch.testing.assert_close(encoder.statistics.mean, mean)


def test_a_chunk_hears_no_more_than_its_look_ahead() -> None:
    model = babbling_model()
    encoder = ChunkedEncoder(model, Chunking(0.4, look_ahead=0.2))
    waveform = speak("ABCDCBADAABB")
    wanted = encoder.wanted
    assert wanted / SAMPLE_RATE == pytest.approx(0.6, abs=0.05)
    encoder.advance(waveform[: wanted - 1])
    assert not len(encoder.log_probs)
    encoder.advance(waveform[:wanted])
    frames = round(0.4 / model.frame_seconds)
    assert len(encoder.log_probs) == frames
    other = ChunkedEncoder(model, Chunking(0.4, look_ahead=0.2))
    other.advance(np.concatenate([waveform[:wanted], -waveform[wanted : wanted + 100]]))
    torch.testing.assert_close(other.log_probs, encoder.log_probs)


def test_who_comes_late_gets_several_chunks() -> None:
    model = babbling_model()
    encoder = ChunkedEncoder(model, Chunking(3 * model.frame_seconds, model.frame_seconds))
    encoder.advance(speak("ABCD" * 3)[: round(10.5 * model.frame_seconds * SAMPLE_RATE)])
    assert len(encoder.log_probs) == 9


@pytest.mark.parametrize(
    "values", [(0, 1, 1), (-1, 1, 1), (math.inf, 1, 1), (1, -1, 1), (1, 1, -1), (1, math.nan, 1)]
)
def test_impossible_chunks_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError):
        Chunking(*values)


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber(babbling_model(), choose_device("cpu"))


def listen(stream: Stream, waveform: np.ndarray, size: int) -> list[Event]:
    events = []
    for start in range(0, len(waveform), size):
        events += stream.feed(waveform[start : start + size])
    return events + stream.finish()


@pytest.mark.parametrize("size", [37, 1000, len(SPEECH)])
def test_how_the_stream_is_chopped_changes_nothing(transcriber: Transcriber, size: int) -> None:
    expected = listen(Stream(transcriber), SPEECH, STEP)
    assert [event.type for event in expected].count("final") == 2
    assert expected[0].type == "partial"
    assert listen(Stream(transcriber), SPEECH, size) == expected


def test_a_final_text_is_that_of_a_recording(transcriber: Transcriber, tmp_path: Path) -> None:
    events = listen(Stream(transcriber), SPEECH, STEP)
    finals = [event for event in events if event.type == "final"]
    lead = round(LEAD_SECONDS * SAMPLE_RATE)
    first = np.concatenate([speak("ABCDCBAD" * 3), PAUSE[:lead]])
    soundfile.write(tmp_path / "first.wav", first, SAMPLE_RATE, subtype="FLOAT")
    assert finals[0].text == transcriber.transcribe(tmp_path / "first.wav").text
    assert 0 <= finals[0].start < finals[0].end < 3.5 < finals[1].start < finals[1].end
    assert finals[1].end <= len(SPEECH) / SAMPLE_RATE


def test_a_stretch_is_normalised_with_those_before(
    transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    class Encoder(ChunkedEncoder):
        def __init__(
            self, model: CtcModel, chunking: Chunking, before: Statistics | None = None
        ) -> None:
            given.append(before)
            super().__init__(model, chunking, before)

    monkeypatch.setattr("asr.streaming.ChunkedEncoder", Encoder)
    listen(Stream(transcriber), SPEECH, STEP)
    first, second, third = given
    assert first is None
    assert second and third
    assert not torch.equal(second.mean, third.mean)


def test_partial_texts_are_left_out_on_request(transcriber: Transcriber) -> None:
    stream = Stream(transcriber)
    events = stream.feed(SPEECH, partials=False) + stream.finish()
    expected = listen(Stream(transcriber), SPEECH, STEP)
    assert events == [event for event in expected if event.type == "final"]


def test_final_texts_alone_are_rescored(transcriber: Transcriber) -> None:
    rescored = []

    class Counter:
        def rescore(self, n_best_lists: list[list[Hypothesis]]) -> list[list[Hypothesis]]:
            rescored.extend(n_best_lists)
            return n_best_lists

    decoder = RescoringDecoder(transcriber.decoder, cast(Rescorer, Counter()))
    both = Transcriber(transcriber.model, choose_device("cpu"), decoder)
    events = listen(Stream(both), SPEECH, STEP)
    assert events == listen(Stream(transcriber), SPEECH, STEP)
    assert len(events) > len(rescored) == [event.type for event in events].count("final")


def test_the_end_makes_what_was_said_final(transcriber: Transcriber) -> None:
    stream = Stream(transcriber)
    assert all(event.type == "partial" for event in stream.feed(speak("ABCDCBAD")))
    [final] = stream.finish()
    assert final.type == "final"
    assert final.text
    assert Stream(transcriber).finish() == []


def test_silence_says_nothing(transcriber: Transcriber) -> None:
    assert listen(Stream(transcriber), noise(3.0, SAMPLE_RATE, level=1e-4), STEP) == []


def test_other_rates_are_resampled(transcriber: Transcriber) -> None:
    import soxr

    finals = [event for event in listen(Stream(transcriber), SPEECH, STEP) if event.type == "final"]
    faster = soxr.resample(SPEECH, SAMPLE_RATE, 44_100)
    events = listen(Stream(transcriber, 44_100), faster, 441)
    resampled = [event for event in events if event.type == "final"]
    for one, other in zip(resampled, finals, strict=True):
        assert one.start == pytest.approx(other.start, abs=0.1)
        assert one.end == pytest.approx(other.end, abs=0.1)


MEMORY = """
import resource
import numpy as np
from babble import babbling_model
from tones import SAMPLE_RATE, speak
from asr.streaming import Stream
from asr.stretches import LEAD_SECONDS
from asr.transcriber import Transcriber, choose_device

stream = Stream(Transcriber(babbling_model(), choose_device("cpu")))
minute = np.concatenate([speak("ABCD" * 8), np.zeros(56 * SAMPLE_RATE, np.float32)])
finals = 0

def listen(minutes):
    global finals
    for _ in range(minutes):
        finals += sum(event.type == "final" for event in stream.feed(minute))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = listen(3)
print(finals, listen(20) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured in kB on Linux alone")
def test_memory_does_not_grow() -> None:
    result = subprocess.run(
        [sys.executable, "-c", MEMORY],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    finals, growth = map(int, result.stdout.split())
    assert finals >= 2
    assert growth < 15_000  # 20 minutes take 38 MB
