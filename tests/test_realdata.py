"""Bounds on real speech; the folder that ASR_CORPORA names is described in data/README.md."""

import os
from pathlib import Path

import pytest

from asr.bundle import packaged_model
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
    "method, most_cer, most_wer", [("greedy", 0.30, 0.75), ("beam", 0.285, 0.54)]
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
