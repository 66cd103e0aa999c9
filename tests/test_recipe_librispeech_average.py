"""The mean of several models' weights."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from asr.bundle import load_bundle, save_bundle
from asr.decoding.config import DecoderConfig
from asr.features import FeatureConfig
from asr.models.ctc import CtcModel
from asr.models.encoder import EncoderConfig

RECIPE = Path(__file__).parents[1] / "recipes" / "librispeech" / "average.py"


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(RECIPE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    paths = []
    for seed, width in enumerate((8, 8, 8, 9)):
        torch.manual_seed(seed)
        encoder = EncoderConfig(hidden_size=width, num_layers=1)
        model = CtcModel(FeatureConfig(n_mels=8), encoder, "AB ")
        paths.append(tmp_path / f"{seed}.asr")
        decoder = DecoderConfig(beam_width=10 + seed)
        save_bundle(
            paths[-1], model, decoder, f"card {seed}", language_model=b"n", precision="float32"
        )
    return paths


def test_the_mean_is_that_of_the_shares(models: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "mean.asr"
    done = run(*models[:3], "--shares", 1, 2, 5, "--output", output)
    assert done.returncode == 0, done.stderr
    mean = load_bundle(output)
    assert (mean.card, mean.decoder.beam_width, mean.language_model) == ("card 0", 10, b"n")
    states = [load_bundle(path).model.state_dict() for path in models[:3]]
    for name, weight in mean.model.state_dict().items():
        expected = (states[0][name] + 2 * states[1][name] + 5 * states[2][name]) / 8
        torch.testing.assert_close(weight, expected, rtol=1e-3, atol=1e-3)
    assert mean.precision == "float32"
    small = run(models[0], models[0], "--output", output, "--precision", "int8")
    assert small.returncode == 0 and load_bundle(output).precision == "int8"
    for name, weight in load_bundle(output).model.state_dict().items():
        torch.testing.assert_close(weight, states[0][name], rtol=1e-3, atol=3e-3)


def test_what_has_no_mean_is_one_clear_line(models: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "mean.asr"
    for arguments, message in (
        ((models[0], models[3]), "3.asr: is built otherwise than"),
        ((*models[:2], "--shares", 1), "give each a share"),
        ((*models[:2], "--shares", 1, -1), "give each a share"),
        ((models[0], tmp_path / "none.asr"), "none.asr: no such model"),
    ):
        done = run(*arguments, "--output", output)
        assert done.returncode == 1 and not output.exists()
        [line] = done.stderr.splitlines()
        assert line.startswith("average: error: ") and message in line
