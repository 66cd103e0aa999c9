"""A finer output for a trained model."""

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

RECIPE = Path(__file__).parents[1] / "recipes" / "librispeech" / "finer.py"


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(RECIPE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def small(path: Path, encoder: EncoderConfig, phones: tuple[str, ...] = ()) -> Path:
    torch.manual_seed(1)
    model = CtcModel(FeatureConfig(n_mels=8), encoder, "AB ", phones)
    decoder = DecoderConfig(beam_width=17)
    save_bundle(path, model, decoder, "card", language_model=b"n", precision="float32")
    return path


@pytest.mark.parametrize("phones", [(), ("A", "B")])
def test_a_finer_model_hears_the_same_in_each_frame(
    phones: tuple[str, ...], tmp_path: Path
) -> None:
    encoder = EncoderConfig(hidden_size=8, num_layers=2)
    before, output = small(tmp_path / "before.asr", encoder, phones), tmp_path / "after.asr"
    done = run(before, "--output", output)
    assert done.returncode == 0, done.stderr
    after = load_bundle(output)
    assert (after.card, after.decoder.beam_width, after.language_model) == ("card", 17, b"n")
    assert after.model.encoder_config.subsampling == 3
    old, new = load_bundle(before).model.state_dict(), after.model.state_dict()
    differ = [name for name in old if not torch.equal(old[name], new[name])]
    assert differ == ["encoder.subsampling.conv1.conv.weight"]
    features, lengths = torch.randn(1, 1, 61, 8), torch.tensor([61])
    every_2nd = load_bundle(before).model.encoder.subsampling.conv1(features, lengths)[0]
    every_3rd = after.model.encoder.subsampling.conv1(features, lengths)[0]
    torch.testing.assert_close(every_3rd[:, :, ::2], every_2nd[:, :, ::3])  # every sixth of each
    speech, samples = torch.randn(1, 16_000), torch.tensor([16_000])
    assert after.model.log_probs_of(speech, samples)[0].shape[1] == 34


def test_wrong_arguments_are_one_clear_line(tmp_path: Path) -> None:
    output = tmp_path / "after.asr"
    fine = small(tmp_path / "fine.asr", EncoderConfig(subsampling=3, hidden_size=8, num_layers=1))
    for model, message in (
        (fine, "fine.asr: has 3x subsampling"),
        (tmp_path / "none.asr", "none.asr: no such model"),
    ):
        done = run(model, "--output", output)
        assert done.returncode == 1 and not output.exists()
        [line] = done.stderr.splitlines()
        assert line.startswith("finer: error: ") and message in line
