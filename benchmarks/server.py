"""How many requests a second does the server answer, and does it drop any?

Starts ``asr serve`` and lets 1, 8 and 32 clients ask for transcripts, each again as soon as it has
its answer. The recordings are those of a manifest, or else noise of the lengths of read speech.

    python benchmarks/server.py --model model.asr --manifest dev-clean.jsonl --requests 200
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

import httpx
import numpy as np
from synthetic import write_noise_corpus

from asr.data.manifest import Utterance, read_manifest

CLIENTS = (1, 8, 32)
NOISE_SECONDS = 300.0


@contextmanager
def serving(options: list[str]) -> Iterator[str]:
    """Give the address of a server that runs until the end."""
    command = [sys.executable, "-m", "asr", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        line = process.stderr.readline()
        try:
            if "http://" not in line:
                raise SystemExit(line)
            url = "http://" + line.split("http://")[1].split()[0]
            while httpx.get(f"{url}/healthz", timeout=60).status_code != 200:
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()


def ask(client: httpx.Client, url: str, model: str, path: Path) -> tuple[int, float]:
    """Return the status of an answer and the seconds it took."""
    start = time.perf_counter()
    response = client.post(
        f"{url}/v1/audio/transcriptions",
        files={"file": (path.name, path.read_bytes())},
        data={"model": model},
    )
    return response.status_code, time.perf_counter() - start


def measure(url: str, utterances: list[Utterance], clients: int) -> str:
    """Return a row of the table: all recordings, asked for by so many clients at once."""
    batches = batch_counts(url)
    with httpx.Client(timeout=600) as client, ThreadPoolExecutor(clients) as pool:
        model = client.get(f"{url}/v1/models").json()["data"][0]["id"]
        start = time.perf_counter()
        answers = pool.map(lambda one: ask(client, url, model, one.audio), utterances)
        statuses, latencies = zip(*answers, strict=True)
        seconds = time.perf_counter() - start
    audio = sum(utterance.duration for utterance in utterances)
    done, requests = batch_counts(url) - batches
    dropped = sum(status != 200 for status in statuses)
    middle, late = np.percentile(latencies, [50, 95])
    return (
        f"| {clients} | {len(statuses) / seconds:.1f} | {audio / seconds:.0f} | {middle:.2f} s "
        f"| {late:.2f} s | {requests / done:.1f} | {dropped} |"
    )


def batch_counts(url: str) -> np.ndarray:
    """Return (2,): how many batches there were, and of how many requests in all."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    figures = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return np.array([float(figures[f"asr_batch_size_{name}"]) for name in ("count", "sum")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, help="the packaged one if not given")
    parser.add_argument("--manifest", type=Path, help="recordings; noise if not given")
    parser.add_argument("--requests", type=int, default=100, help="for each number of clients")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        manifest = options.manifest or write_noise_corpus(Path(folder), NOISE_SECONDS)
        utterances = list(islice(cycle(read_manifest(manifest)), options.requests))
        with serving(["--model", str(options.model)] if options.model else []) as url:
            measure(url, utterances[:4], 1)  # warms up
            print("| clients | requests/s | audio s/s | median | 95 % | batch | dropped |")
            print("|---|---|---|---|---|---|---|")
            for clients in options.clients:
                print(measure(url, utterances, clients), flush=True)


if __name__ == "__main__":
    main()
