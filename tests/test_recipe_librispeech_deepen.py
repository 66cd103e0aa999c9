"""More recurrent layers for a trained model."""

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
from asr.models.recurrent import Cell

RECIPE = Path(__file__).parents[1] / "recipes" / "librispeech" / "deepen.py"


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(RECIPE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def small(path: Path, cell: Cell = "lstm", bidirectional: bool = True) -> Path:
    torch.manual_seed(1)
    encoder = EncoderConfig(cell=cell, bidirectional=bidirectional, hidden_size=8, num_layers=2)
    model = CtcModel(FeatureConfig(n_mels=8), encoder, "AB ")
    decoder = DecoderConfig(beam_width=17)
    save_bundle(path, model, decoder, "card", language_model=b"n", precision="float32")
    return path


@pytest.mark.parametrize(
    ("cell", "bidirectional"),
    [("lstm", True), ("lstm", False), ("gru", True), ("rnn_tanh", True)],
)
def test_a_deeper_model_says_the_same_and_can_learn(
    cell: Cell, bidirectional: bool, tmp_path: Path
) -> None:
    before, output = small(tmp_path / "before.asr", cell, bidirectional), tmp_path / "after.asr"
    done = run(before, "--layers", 2, "--output", output)
    assert done.returncode == 0, done.stderr
    after = load_bundle(output)
    assert (after.card, after.decoder.beam_width, after.language_model) == ("card", 17, b"n")
    assert after.model.encoder_config.num_layers == 4
    speech, lengths = torch.randn(2, 16_000), torch.tensor([16_000, 9_000])
    old = load_bundle(before).model.log_probs_of(speech, lengths)[0]
    new = after.model.requires_grad_().log_probs_of(speech, lengths)[0]
    torch.testing.assert_close(new, old, rtol=1e-3, atol=1e-3)
    new[0, :, 1].sum().backward()
    for block in after.model.encoder.blocks:
        for cell_ in block.recurrent.children():
            assert cell_.weight_ih_l0.grad.any()


def test_wrong_arguments_are_one_clear_line(tmp_path: Path) -> None:
    output = tmp_path / "after.asr"
    for arguments, message in (
        ((small(tmp_path / "before.asr"), "--layers", 0), "--layers 0 adds nothing"),
        ((small(tmp_path / "relu.asr", "rnn_relu"),), "relu.asr: rnn_relu cells cannot"),
        ((tmp_path / "none.asr",), "none.asr: no such model"),
    ):
        done = run(*arguments, "--output", output)
        assert done.returncode == 1 and not output.exists()
        [line] = done.stderr.splitlines()
        assert line.startswith("deepen: error: ") and message in line
