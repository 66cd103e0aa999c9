"""How fast is the beam with a language model, and how good, beside pyctcdecode?

Recognises the utterances of a manifest, then only decodes: greedily, and with beams of several
widths and the model's own settings. pyctcdecode, if wanted, decodes the same log-probabilities,
which must be of characters, with the same language model, width and weights, in an environment of
its own; it has no label priors, so both get log-probabilities that are divided by them already:

    pip install pyctcdecode kenlm    # there; kenlm needs cmake and a C++ compiler
    python benchmarks/decoding.py --model model.asr --manifest dev-clean.jsonl --peer PYTHON

Times are CPU seconds of one core per second of audio.
"""

import argparse
import json
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from asr.bundle import load_bundle
from asr.data.manifest import read_manifest
from asr.decoding.beam import BeamDecoder
from asr.decoding.config import DecoderConfig
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.hypothesis import Decoder
from asr.decoding.priors import scaled_priors
from asr.decoding.tuning import word_error_rate
from asr.errors import AsrError
from asr.lm.word_model import WordModel
from asr.models.ctc import CtcModel
from asr.text import CharTokenizer, normalise
from asr.transcriber import Transcriber, sound_spelling

PEER = Path(__file__).with_name("pyctcdecode_beam.py")


def measure(decoder: Decoder, rows: list[np.ndarray]) -> tuple[list[str], float]:
    """Return the texts and the CPU seconds that decoding took."""
    start = time.process_time()
    texts = [
        decoder.decode(torch.from_numpy(row)[None], torch.tensor([len(row)]))[0][0].text
        for row in rows
    ]
    return texts, time.process_time() - start


def divided_by_priors(
    log_probs: np.ndarray, config: DecoderConfig, tokenizer: CharTokenizer
) -> np.ndarray:
    """Return log-probabilities, summing to one again, after the division by the label priors."""
    divided = log_probs - scaled_priors(config, tokenizer)
    return divided - np.logaddexp.reduce(divided, axis=-1, keepdims=True)


def measure_peer(
    python: str, rows: list[np.ndarray], lm: Path, words: list[str], config: DecoderConfig
) -> tuple[list[str], float]:
    """Return the same of pyctcdecode."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "log_probs.npz", *rows)
        (Path(folder) / "words.txt").write_text("\n".join(words), encoding="utf-8")
        settings = [config.beam_width, config.lm_weight, config.word_score]
        command = [python, PEER, folder, lm, *map(str, settings)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    result = json.loads(done.stdout)
    return result["texts"], result["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="bundle with a language model")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--widths", type=int, nargs="+", default=[10, 25, 50, 100])
    parser.add_argument("--peer", help="Python that has pyctcdecode and kenlm")
    parser.add_argument("--peer-width", type=int, default=50)
    options = parser.parse_args()
    bundle = load_bundle(options.model)
    utterances = read_manifest(options.manifest)
    audio = sum(utterance.duration for utterance in utterances)
    references = [normalise(utterance.text) for utterance in utterances]
    paths = [utterance.audio for utterance in utterances]

    def log_probs_of(model: CtcModel) -> list[np.ndarray]:
        rows = []
        for result in Transcriber(model, torch.device("cpu")).log_probs_of(paths):
            if isinstance(result, AsrError):
                parser.error(str(result))
            rows.append(result)
        return rows

    def show(name: str, texts: list[str], seconds: float) -> None:
        rate = word_error_rate(references, texts)
        print(f"| {name} | {rate:.2%} | {seconds / audio:.5f} |", flush=True)

    with bundle.language_model_file() as lm:
        if lm is None:
            parser.error(f"{options.model} holds no language model; see asr lm tune")
        model = WordModel(lm, bundle.model.tokenizer.alphabet)
        spelling = sound_spelling(bundle, model.words)
        if spelling and options.peer:
            parser.error(f"{options.model} searches words by their sound, pyctcdecode cannot")
        rows = characters = log_probs_of(bundle.model)
        if spelling:
            rows = log_probs_of(bundle.model.in_phones())
        torch.set_num_threads(1)
        print("| decoder | WER | s per s of audio |\n|---|---|---|")
        show("greedy", *measure(GreedyDecoder(bundle.model.tokenizer), characters))
        decoder = BeamDecoder(bundle.model.tokenizer, bundle.decoder, model, spelling=spelling)
        for width in options.widths:
            config = replace(bundle.decoder, beam_width=width)
            show(f"beam {width}", *measure(decoder.with_config(config), rows))
        if options.peer:
            rows = [divided_by_priors(row, bundle.decoder, bundle.model.tokenizer) for row in rows]
            width = options.peer_width
            config = replace(bundle.decoder, beam_width=width, priors=())
            ours = measure(decoder.with_config(config), rows)
            show(f"beam {width}, divided before", *ours)
            peer = measure_peer(options.peer, rows, lm, list(model.words), config)
            show(f"pyctcdecode {width}, divided before", *peer)


if __name__ == "__main__":
    main()
