"""A tiny model with random weights that writes plenty of meaningless text."""

import random
from pathlib import Path

import soundfile
import torch
from tones import SAMPLE_RATE, speak

from asr.bundle import save_bundle
from asr.decoding.config import DecoderConfig
from asr.features import FeatureConfig
from asr.models.ctc import CtcModel
from asr.models.encoder import EncoderConfig


def babbling_model() -> CtcModel:
    features = FeatureConfig(sample_rate=SAMPLE_RATE, n_fft=256, win_length=200, n_mels=16)
    encoder = EncoderConfig(hidden_size=16, num_layers=1, conv_channels=2)
    torch.manual_seed(0)
    model = CtcModel(features, encoder, " ABCDEF").eval()
    waveform = torch.from_numpy(speak("ABCD" * 10))[None]
    with torch.no_grad():
        logits = model.log_probs_of(waveform, torch.tensor([waveform.shape[1]]))[0][0]
        # No token is likelier than another on the whole, and each frame is sure of its own.
        model.output.bias.sub_(logits.mean(dim=0))
        model.output.weight.mul_(30)
        model.output.bias.mul_(30)
    return model


def write_babbler(path: Path) -> Path:
    save_bundle(path, babbling_model(), DecoderConfig(), "# Babbler\n\nTrained on nothing.\n")
    return path


def write_tones(path: Path, seconds: float, seed: int = 0, pause: float | None = None) -> Path:
    """Write random pitches, silent for half a second from ``pause`` on."""
    text = "".join(random.Random(seed).choices("ABCD", k=round(seconds / 0.12) + 1))
    waveform = speak(text, seed)[: round(seconds * SAMPLE_RATE)]
    if pause is not None:
        waveform[round(pause * SAMPLE_RATE) : round((pause + 0.5) * SAMPLE_RATE)] = 0
    soundfile.write(path, waveform, SAMPLE_RATE, subtype="FLOAT")
    return path
