"""Decodes with pyctcdecode for ``decoding.py``; runs in an environment that has it.

Arguments: folder with ``log_probs.npz`` and ``words.txt``, ARPA file, beam width, weight, word
score. Prints ``{"texts": [...], "seconds": CPU seconds}``.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from pyctcdecode import build_ctcdecoder

LABELS = ["", *" 'ABCDEFGHIJKLMNOPQRSTUVWXYZ"]

folder, lm, width, weight, word_score = sys.argv[1:]
log_probs = np.load(Path(folder) / "log_probs.npz")
words = (Path(folder) / "words.txt").read_text("utf-8").split()
decoder = build_ctcdecoder(LABELS, lm, words, alpha=float(weight), beta=float(word_score))
start = time.process_time()
texts = [decoder.decode(log_probs[name], beam_width=int(width)) for name in log_probs.files]
json.dump({"texts": texts, "seconds": time.process_time() - start}, sys.stdout)
