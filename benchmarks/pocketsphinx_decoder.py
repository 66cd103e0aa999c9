"""Transcribe a manifest with PocketSphinx and its own US English model, as a peer to compare with.

    pip install pocketsphinx soundfile soxr
    python benchmarks/pocketsphinx_decoder.py dev-clean.jsonl > pocketsphinx.jsonl
    asr evaluate dev-clean.jsonl --hypotheses pocketsphinx.jsonl

It writes ``{"id": …, "reference": …, "hypothesis": …}`` lines, and to stderr the CPU seconds per
second of audio.
"""

import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr
from pocketsphinx import Decoder

RATE = 16_000
VARIANT = re.compile(r"\(\d+\)")  # of a pronunciation

manifest = Path(sys.argv[1])
decoder = Decoder(samprate=RATE, loglevel="FATAL")
seconds, start = 0.0, time.process_time()
for line in manifest.read_text("utf-8").splitlines():
    entry = json.loads(line)
    audio, rate = soundfile.read(manifest.parent / entry["audio_filepath"], dtype="float32")
    samples = soxr.resample(audio, rate, RATE).clip(-1, 1)
    decoder.start_utt()
    decoder.process_raw((samples * 32767).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    text = VARIANT.sub("", found.hypstr).upper() if found else ""
    name = entry.get("id", Path(entry["audio_filepath"]).stem)
    row = {"id": name, "reference": entry["text"], "hypothesis": text}
    print(json.dumps(row), flush=True)
    seconds += len(samples) / RATE
used = time.process_time() - start
print(f"{used / seconds:.2f} s of one core per second of audio", file=sys.stderr)
