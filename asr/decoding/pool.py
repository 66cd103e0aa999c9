"""Decoding over several processes: flashlight keeps Python's lock, so threads would not help."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asr.decoding.beam import BeamDecoder
from asr.decoding.config import DecoderConfig
from asr.decoding.hypothesis import Hypothesis
from asr.decoding.spelling import Spelling
from asr.errors import ConfigError
from asr.interrupts import deaf_to_ctrl_c
from asr.lm.word_model import WordModel
from asr.text import CharTokenizer

CHUNK = 16  # utterances that a process decodes at a time

_decoder: BeamDecoder  # of a worker process


class DecoderPool:
    """Processes that decode with one language model, each with its own copy.

    Use it as a context manager.

    Args:
        alphabet: of the acoustic model.
        language_model: ARPA file or KenLM's binary file.
        words: the lexicon; all words of the model if ``None``.
        jobs: processes; one per processor if ``None``.
        spelling: of words in the tokens of the acoustic model; in characters if ``None``.

    Raises:
        LanguageModelError: the language model cannot be used, or a word not be spelled.
    """

    def __init__(
        self,
        alphabet: str,
        language_model: str | Path,
        words: Sequence[str] | None = None,
        jobs: int | None = None,
        spelling: Spelling | None = None,
    ) -> None:
        _make_decoder(
            alphabet, language_model, words, spelling
        )  # a process could not say what is wrong
        self._pool = ProcessPoolExecutor(
            jobs or min(_processors(), 61),  # the most that Windows can
            multiprocessing.get_context("spawn"),  # forking beside torch's threads can hang
            _start,
            (alphabet, language_model, words, spelling),
        )

    def __enter__(self) -> "DecoderPool":
        """Return the pool."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the processes; after an error at once, whatever they work on."""
        if error:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
            # Python 3.10 would wait until somebody reads what is queued.
            self._pool._call_queue._reader.close()  # type: ignore[attr-defined]
        self._pool.shutdown(cancel_futures=True)

    def decode(
        self,
        log_probs: Sequence[NDArray[np.float32]],
        config: DecoderConfig,
        on_progress: Callable[[int], None] | None = None,
        *,
        n_best: int = 1,
    ) -> list[list[Hypothesis]]:
        """Decode utterances.

        Args:
            log_probs: (frames, vocab) of each utterance.
            config: weights and beam width.
            on_progress: called with the number of utterances done, after each chunk.
            n_best: most hypotheses per utterance.

        Returns:
            An n-best list per utterance.

        Raises:
            ConfigError: a process died, mostly for want of memory.
        """
        results: list[list[Hypothesis]] = []
        try:
            with deaf_to_ctrl_c():  # processes start as chunks come
                chunks: list[Future[list[list[Hypothesis]]]] = [
                    self._pool.submit(_decode, log_probs[i : i + CHUNK], config, n_best)
                    for i in range(0, len(log_probs), CHUNK)
                ]
            for chunk in chunks:
                found = chunk.result()
                results += found
                if on_progress:
                    on_progress(len(found))
        except BrokenProcessPool as error:
            raise ConfigError(
                "a decoding process died, perhaps for want of memory; use fewer --jobs or a "
                "smaller language model"
            ) from error
        return results


def _start(*arguments: Any) -> None:
    global _decoder
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _decoder = _make_decoder(*arguments)


def _processors() -> int:
    """Return how many processors this process may use, which on a cluster are not all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _make_decoder(
    alphabet: str,
    language_model: str | Path,
    words: Sequence[str] | None,
    spelling: Spelling | None,
) -> BeamDecoder:
    model = WordModel(language_model, alphabet)
    tokenizer = CharTokenizer(alphabet)
    return BeamDecoder(tokenizer, DecoderConfig("beam"), model, words=words, spelling=spelling)


def _decode(
    log_probs: Sequence[NDArray[np.float32]], config: DecoderConfig, n_best: int
) -> list[list[Hypothesis]]:
    decoder = _decoder.with_config(config, n_best)
    return [
        decoder.decode(torch.from_numpy(row)[None], torch.tensor([len(row)]))[0]
        for row in log_probs
    ]
