"""More units for a trained character model."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_scripts import load_recipe

from asr.lm.character import (
    Cell,
    CharacterModel,
    CharacterModelConfig,
    load_character_model,
    pad_texts,
    save_character_model,
)

widening = load_recipe("char_lm/widen.py")
TEXTS = ["AB CAB", "", "CCC A"]


def make_model(cell: Cell, **settings: Any) -> CharacterModel:
    torch.manual_seed(1)
    return CharacterModel(CharacterModelConfig(cell, 6, alphabet="ABC ", **settings))


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2}, {"embedding_size": 4}])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_a_wider_model_foresees_the_same_and_can_learn(
    cell: Cell, settings: dict[str, Any]
) -> None:
    model = make_model(cell, **settings)
    wider = widening.widen(model, 9)
    assert wider.config.hidden_size == 9 and wider.config.num_layers == model.config.num_layers
    torch.testing.assert_close(wider.score(TEXTS), model.score(TEXTS))
    inputs, _ = pad_texts([wider.tokenizer.encode(text) for text in TEXTS])
    log_probs, _ = wider(inputs.clamp(min=0), wider.initial_state(len(TEXTS)))
    log_probs[:, :, 1].sum().backward()
    reads = wider.projection if wider.config.embedding_size else wider.output
    assert reads.weight.grad[:, 6:].all()  # of the new units
    assert wider.rnn.weight_hh_l0.grad[:6, 6:].any()


def test_the_command_writes_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = tmp_path / "before.safetensors", tmp_path / "after.safetensors"
    save_character_model(before, make_model("lstm"))

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["widen", *map(str, arguments), "--output", str(after)])
        widening.main()

    for arguments, message in (
        ((before, "--units", 6), "--units 6 adds nothing to its 6"),
        ((tmp_path / "none", "--units", 9), "none: cannot read"),
    ):
        with pytest.raises(SystemExit, match=f"widen: error: .*{message}"):
            run(*arguments)
        assert not after.exists()
    run(before, "--units", 9)
    assert "9 units a layer, 626 weights" in capsys.readouterr().out
    expected = load_character_model(before).score(TEXTS)
    torch.testing.assert_close(load_character_model(after).score(TEXTS), expected)
