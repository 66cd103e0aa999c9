"""How fast is transcription, from file to text, beside the bare LSTM of the same shape?

Runs a model over recordings as ``asr transcribe`` does and, in turns with it, the forward pass of
a bare ``nn.LSTM`` over the same batches of ready features. Then measures how long the command
takes to start.

    python benchmarks/transcription.py --model model.asr --manifest dev-clean.jsonl
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from bare import BareModel
from clocks import clocks
from synthetic import write_noise_corpus
from torch import Tensor

from asr.bundle import load_bundle, save_bundle
from asr.data.manifest import read_manifest
from asr.decoding.config import DecoderConfig
from asr.features import FeatureConfig
from asr.models.ctc import CtcModel
from asr.models.encoder import EncoderConfig
from asr.text import ENGLISH
from asr.transcriber import Transcriber, Transcript


def seconds_of(work: Callable[[], object]) -> np.ndarray:
    """Return how long ``work`` takes, (2,): by the wall's clock and of CPU time."""
    start = clocks()
    work()
    return clocks() - start


def batches_of(transcriber: Transcriber, paths: list[Path]) -> list[Tensor]:
    """Return the (batch, frames, n_features) features that reach the model; warms all up."""
    batches: list[Tensor] = []
    hook = transcriber.model.register_forward_pre_hook(lambda _, args: batches.append(args[0]))
    list(transcriber.transcribe_many(paths))
    hook.remove()
    return batches


def measure(paths: list[Path], model: Path, repetitions: int) -> None:
    """Print speed end to end, speed of the bare model, and the share of one in the other."""
    transcriber = Transcriber.load(model, method="greedy")
    features, encoder = transcriber.model.features_config, transcriber.model.encoder_config
    bare = BareModel(features.n_features, encoder, len(transcriber.model.tokenizer))
    bare.eval().to(transcriber.device)
    batches = batches_of(transcriber, paths)
    results = list(transcriber.transcribe_many(paths))
    audio = sum(result.duration for result in results if isinstance(result, Transcript))

    def transcribe(transcriber: Transcriber = transcriber) -> None:
        list(transcriber.transcribe_many(paths))

    @torch.inference_mode()
    def forward() -> None:
        for batch in batches:
            log_probs = bare(batch)
        log_probs.cpu()

    pairs = [(seconds_of(transcribe), seconds_of(forward)) for _ in range(repetitions)]
    share, cpu_share = np.median([bare / ours for ours, bare in pairs], axis=0)
    print(f"{torch.get_num_threads()} threads on {transcriber.device}, torch {torch.__version__}")
    print(f"{len(paths)} recordings, {audio:.0f} s")
    ours, theirs = np.median(pairs, axis=0)[:, 0]
    print(f"file to text, greedy {audio / ours:6.0f} x real time")
    print(f"bare forward         {audio / theirs:6.0f} x real time")
    print(f"share                {share:6.0%}, of CPU time {cpu_share:.0%}")
    decoder = load_bundle(model).decoder
    if decoder.method != "greedy":
        seconds = seconds_of(partial(transcribe, Transcriber.load(model)))[0]
        print(f"with its beam of {decoder.beam_width}: {audio / seconds:.0f} x real time")


def measure_start(recording: Path, model: Path, repetitions: int) -> None:
    """Print how long the command takes to help, and to its first transcript."""
    for name, arguments in (
        ("asr --help", ["--help"]),
        ("asr transcribe", ["transcribe", str(recording), "--model", str(model)]),
    ):
        command = [sys.executable, "-m", "asr", *arguments]
        run = partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)
        times = [seconds_of(run)[0] for _ in range(repetitions)]
        print(f"{name:<14}{np.median(times):6.2f} s, at best {min(times):.2f} s")


def untrained_model(path: Path, hidden_size: int, num_layers: int) -> Path:
    """Write a model with random weights, which is as fast as a trained one, and return its path."""
    encoder = EncoderConfig(hidden_size=hidden_size, num_layers=num_layers)
    save_bundle(path, CtcModel(FeatureConfig(), encoder, ENGLISH), DecoderConfig(), "# Untrained\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="bundle; random weights if not given")
    parser.add_argument("--hidden-size", type=int, default=EncoderConfig.hidden_size)
    parser.add_argument("--num-layers", type=int, default=EncoderConfig.num_layers)
    parser.add_argument("--manifest", type=Path, help="real speech; noise if not given")
    parser.add_argument("--seconds", type=float, default=600, help="of audio, about")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = options.manifest or write_noise_corpus(folder, options.seconds)
        paths, seconds = [], 0.0
        for utterance in read_manifest(manifest):
            if seconds < options.seconds:
                paths.append(utterance.audio)
                seconds += utterance.duration
        model = options.model or untrained_model(
            folder / "untrained.asr", options.hidden_size, options.num_layers
        )
        measure(paths, model, options.repetitions)
        measure_start(paths[0], model, options.repetitions)


if __name__ == "__main__":
    main()
