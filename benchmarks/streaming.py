"""What do chunks cost? Word errors, latency and computing time of live partial texts.

Each utterance goes through the model in chunks, as ``asr listen`` does it; those of a speaker
follow one another as between pauses. The log-probabilities are decoded as the offline ones are, so
that the word error rates differ by the chunks alone.

Latency is the mean time from a sound until a partial text can hold it: half a chunk, the
look-ahead, and the CPU time for a chunk. The real-time factor is CPU seconds per second of speech
on one core. For both, some of the utterances are decoded anew after each chunk, as live.

    python benchmarks/streaming.py --manifest dev-clean.jsonl --every 6
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from asr.audio import load_audio
from asr.data.manifest import read_manifest
from asr.decoding.rescoring import RescoringDecoder
from asr.decoding.tuning import word_error_rate
from asr.streaming import ChunkedEncoder, Chunking, Statistics
from asr.text import normalise
from asr.transcriber import Transcriber


def decode(transcriber: Transcriber, log_probs: torch.Tensor) -> str:
    lengths = torch.tensor([len(log_probs)])
    decoder = transcriber.decoder
    if isinstance(decoder, RescoringDecoder):
        decoder = decoder.first  # partial texts are not rescored
    return decoder.decode(log_probs[None], lengths)[0][0].text


@torch.inference_mode()
def offline(transcriber: Transcriber, waveform: np.ndarray) -> str:
    lengths = torch.tensor([len(waveform)])
    log_probs, _ = transcriber.model.log_probs_of(torch.from_numpy(waveform)[None], lengths)
    return decode(transcriber, log_probs[0])


def hear(
    transcriber: Transcriber, encoder: ChunkedEncoder, waveform: np.ndarray, live: bool
) -> list[float]:
    """Encode an utterance chunk by chunk; if ``live``, decode each time, and return CPU seconds."""
    times = []
    while (wanted := encoder.wanted) <= len(waveform):
        start = time.process_time()
        encoder.advance(waveform[:wanted])
        if live:
            decode(transcriber, encoder.log_probs)
            times.append(time.process_time() - start)
    encoder.advance(waveform, is_last=True)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="bundle; the packaged one if not given")
    parser.add_argument("--every", type=int, default=1, help="take one utterance in so many")
    parser.add_argument(
        "--live-every", type=int, default=5, help="of these, decode one in so many as live"
    )
    parser.add_argument("--chunks", type=float, nargs="+", default=[0.32, 0.64, 1.28, 2.56])
    parser.add_argument("--look-aheads", type=float, nargs="+", default=[0.16, 0.32, 0.64, 1.28])
    parser.add_argument("--left", type=float, nargs="+", default=[Chunking.left_context])
    options = parser.parse_args()
    torch.set_num_threads(1)
    transcriber = Transcriber.load(options.model, "cpu")
    utterances = read_manifest(options.manifest)[:: options.every]
    references = [normalise(utterance.text) for utterance in utterances]
    waveforms = [load_audio(item.audio, transcriber.sample_rate) for item in utterances]
    minutes = sum(map(len, waveforms)) / transcriber.sample_rate / 60
    print(f"{len(utterances)} utterances, {minutes:.0f} minutes")
    rate = word_error_rate(references, [offline(transcriber, item) for item in waveforms])
    print("\n| chunk | look-ahead | left context | latency | real-time factor | WER |")
    print("|---|---|---|---|---|---|")
    print(f"| offline | | | | | {rate:.1%} |", flush=True)
    for left in options.left:
        for chunk in options.chunks:
            for look_ahead in options.look_aheads:
                chunking = Chunking(chunk, look_ahead, left)
                texts: list[str] = []
                times: list[float] = []
                before: dict[str, Statistics | None] = {}  # of each speaker
                for number, (utterance, waveform) in enumerate(
                    zip(utterances, waveforms, strict=True)
                ):
                    speaker = utterance.speaker
                    encoder = ChunkedEncoder(transcriber.model, chunking, before.get(speaker))
                    live = number % options.live_every == 0
                    times += hear(transcriber, encoder, waveform, live)
                    before[speaker] = encoder.statistics
                    texts.append(decode(transcriber, encoder.log_probs))
                computing = float(np.mean(times))
                print(
                    f"| {chunk:g} s | {look_ahead:g} s | {left:g} s "
                    f"| {chunking.latency + computing:.2f} s | {computing / chunk:.2f} "
                    f"| {word_error_rate(references, texts):.1%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
