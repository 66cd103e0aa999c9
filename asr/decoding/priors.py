"""Label priors: how likely a network finds each token before it has heard anything.

A network learns p(token | audio); a search with a language model wants p(audio | token), which by
Bayes' rule is p(token | audio) / p(token) up to a constant. Part of that division is best in
practice: it lowers the blank and the letters that the network writes by habit, and leaves it to
the language model to say what is common.

References: Bourlard and Morgan 1994, "Connectionist Speech Recognition"; for CTC: Miao et al.
2015, "EESEN: End-to-End Speech Recognition Using Deep RNN Models and WFST-Based Decoding".
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from asr.decoding.config import DecoderConfig
from asr.errors import ConfigError
from asr.text import CharTokenizer

SMALLEST = 1e-8  # a token never seen is not infinitely unlikely


def measure_priors(log_probs: Sequence[NDArray[np.float32]]) -> tuple[float, ...]:
    """Return the natural log of each token's mean posterior.

    Args:
        log_probs: (frames, vocab) of each utterance of some speech.
    """
    total = np.sum([np.exp(row).sum(axis=0, dtype=np.float64) for row in log_probs], axis=0)
    mean = np.maximum(total / max(1, sum(map(len, log_probs))), SMALLEST)
    return tuple(np.log(mean).round(4).tolist())


def scaled_priors(config: DecoderConfig, tokenizer: CharTokenizer) -> NDArray[np.float32]:
    """Return what to subtract from each frame's log-probabilities: (vocab,).

    Raises:
        ConfigError: the settings hold priors of another alphabet.
    """
    if not config.priors:
        return np.zeros(len(tokenizer), np.float32)
    if len(config.priors) != len(tokenizer):
        raise ConfigError(
            f"{len(config.priors)} priors for {len(tokenizer)} tokens; run asr lm tune again"
        )
    return config.prior_weight * np.array(config.priors, np.float32)
