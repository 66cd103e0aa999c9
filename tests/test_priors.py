"""Label priors, against Bayes' rule by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from asr.decoding.beam import BeamDecoder
from asr.decoding.config import DecoderConfig
from asr.decoding.priors import SMALLEST, measure_priors, scaled_priors
from asr.errors import ConfigError
from asr.lm.word_model import WordModel
from asr.text import CharTokenizer

TOKENIZER = CharTokenizer(" AB")
ARPA = """\\data\\
ngram 1=5
ngram 2=1

\\1-grams:
-99\t<s>\t0
-0.6\t</s>
-2\t<unk>
-0.6\tA\t0
-0.6\tB

\\2-grams:
-0.6\tA A

\\end\\
"""


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "even.arpa"
    path.write_text(ARPA)
    return WordModel(path, TOKENIZER.alphabet)


def test_priors_are_mean_posteriors_over_all_frames():
    one = np.log(np.float32([[0.5, 0.25, 0.25, 1e-30]]))
    two = np.log(np.float32([[0.25, 0.25, 0.5, 1e-30], [0.75, 0.25, 1e-30, 1e-30]]))
    assert measure_priors([one, two]) == pytest.approx(
        [math.log(0.5), math.log(0.25), math.log(0.25), math.log(SMALLEST)], abs=1e-4
    )


def test_the_search_divides_by_the_priors(words):
    """A is likelier to the network, but no more so than always: B is what was heard."""
    log_probs = np.log(np.float32([[0.2, 0.05, 0.45, 0.3], [0.9, 0.05, 0.03, 0.02]]))
    priors = tuple(np.log([0.5, 0.1, 0.3, 0.1]).tolist())
    config = DecoderConfig("beam", priors=priors)
    decoder = BeamDecoder(TOKENIZER, config, words)

    def best(weight):
        weighted = decoder.with_config(replace(config, prior_weight=weight))
        return weighted.decode(torch.from_numpy(log_probs)[None], torch.tensor([2]))[0][0]

    assert best(0.0).text == "A"
    assert best(1.0).text == "B"
    # What remains is what the audio says, whatever was subtracted.
    assert best(1.0).acoustic_score == pytest.approx(math.log(0.3 * 0.9), abs=1e-4)
    gained = -priors[3] - priors[0]
    assert best(1.0).score == pytest.approx(
        math.log(0.3 * 0.9) + gained + 0.6 * best(1.0).lm_score + config.word_score, abs=1e-4
    )


def test_priors_of_another_alphabet_are_refused():
    with pytest.raises(ConfigError, match="3 priors for 4 tokens"):
        scaled_priors(DecoderConfig(priors=(0.0, 0.0, 0.0)), TOKENIZER)


def test_a_beam_without_words_needs_no_priors():
    """Those of a model of phones and words may remain where the words were taken out."""
    config = DecoderConfig("beam", priors=(0.0,) * 40)
    log_probs = torch.eye(len(TOKENIZER))[None, 1:3].mul(9).log_softmax(dim=2)
    [[best, *_]] = BeamDecoder(TOKENIZER, config).decode(log_probs, torch.tensor([2]))
    assert best.tokens == (1, 2)
