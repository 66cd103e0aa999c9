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


def babbler_in_phones() -> CtcModel:
    """A model whose phones are its letters, with the same probabilities."""
    letters = babbling_model()
    phones = tuple(f"{letter}{letter}" for letter in "ABCDEF")
    model = CtcModel(letters.features_config, letters.encoder_config, " ABCDEF", phones).eval()
    model.load_state_dict(letters.state_dict(), strict=False)
    model.phone_output.load_state_dict(letters.output.state_dict())
    return model


def write_babbler(path: Path, model: CtcModel | None = None) -> Path:
    card = "# Babbler\n\nTrained on nothing.\n"
    save_bundle(path, model or babbling_model(), DecoderConfig(), card)
    return path


def write_tones(path: Path, seconds: float, seed: int = 0, pause: float | None = None) -> Path:
    """Write random pitches, silent for half a second from ``pause`` on."""
    text = "".join(random.Random(seed).choices("ABCD", k=round(seconds / 0.12) + 1))
    waveform = speak(text, seed)[: round(seconds * SAMPLE_RATE)]
    if pause is not None:
        waveform[round(pause * SAMPLE_RATE) : round((pause + 0.5) * SAMPLE_RATE)] = 0
    soundfile.write(path, waveform, SAMPLE_RATE, subtype="FLOAT")
    return path
