"""Bounds on real speech, in the folder that ASR_CORPORA names."""

import os
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile

from asr.archive import packaged_model
from asr.audio import load_audio
from asr.data.corpora import read_corpus
from asr.scoring.report import score
from asr.scoring.utterances import score_utterance
from asr.transcriber import Transcriber

CORPORA = os.environ.get("ASR_CORPORA")

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not CORPORA, reason="ASR_CORPORA does not name a folder of real speech"),
]


@pytest.fixture(scope="module")
def dev_clean():
    return read_corpus("librispeech", Path(CORPORA) / "LibriSpeech" / "dev-clean").utterances


def test_every_transcript_of_dev_clean_has_its_recording(dev_clean):
    assert len(dev_clean) >= 600
    assert len({utterance.speaker for utterance in dev_clean}) >= 10
    assert all(0.5 < utterance.duration < 40 for utterance in dev_clean)


@pytest.mark.parametrize(
    "method, most_cer, most_wer", [("greedy", 0.21, 0.54), ("beam", 0.13, 0.25)]
)
def test_packaged_model_keeps_its_error_rate(dev_clean, method, most_cer, most_wer):
    utterances = dev_clean[::15]  # some of each speaker
    transcriber = Transcriber.load(packaged_model(), method=method)
    results = transcriber.transcribe_many([u.audio for u in utterances])
    report = score(
        [
            score_utterance(utterance.id, utterance.text, result.text, speaker=utterance.speaker)
            for utterance, result in zip(utterances, results, strict=True)
        ]
    )
    assert report.utterances >= 40
    assert report.cer < most_cer
    assert report.wer < most_wer


def test_a_long_recording_has_the_words_of_its_parts(dev_clean, tmp_path):
    utterances = dev_clean[::4]  # with half as many, chance alone moves two points
    reference = " ".join(utterance.text for utterance in utterances)
    transcriber = Transcriber.load(packaged_model())
    alone = transcriber.transcribe_many([utterance.audio for utterance in utterances])
    parts = jiwer.wer(reference, " ".join(result.text for result in alone))
    rng = np.random.default_rng(0)
    for noise in (0.0, 1e-3):
        with soundfile.SoundFile(tmp_path / "joined.wav", "w", 16_000, 1, "PCM_16") as file:
            for utterance in utterances:
                file.write(load_audio(utterance.audio, 16_000))
                pause = round(rng.uniform(0, 2) * 16_000)
                file.write((noise * rng.standard_normal(pause)).astype(np.float32))
        joined = jiwer.wer(reference, transcriber.transcribe(tmp_path / "joined.wav").text)
        # Within a point on all of dev-clean; on a quarter of it chance moves it as much.
        assert joined < parts + 0.02
