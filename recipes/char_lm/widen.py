"""Add units to a trained character model, which at first change nothing.

    python recipes/char_lm/widen.py model.safetensors --units 896 --output wider.safetensors
    python recipes/char_lm/train.py --init_from wider.safetensors --train ...

The new units read all others, but nothing reads them: their weights into the units before and into
what is foreseen are zero, and learn from there (Chen et al. 2016, "Net2Net").
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from asr.errors import AsrError, ConfigError
from asr.lm.character import CharacterModel, load_character_model, save_character_model


def widen(model: CharacterModel, units: int) -> CharacterModel:
    """Return a model of ``units`` units in each layer that foresees the same.

    Raises:
        ConfigError: these are no more than it has.
    """
    before = model.config.hidden_size
    if units <= before:
        raise ConfigError(f"--units {units} adds nothing to its {before}; give more")
    wider = CharacterModel(replace(model.config, hidden_size=units))
    given = model.state_dict()
    for name, weights in wider.state_dict().items():
        if name.startswith("rnn."):  # gates stand one above the other
            fill(weights.unflatten(0, (-1, units)), given[name].unflatten(0, (-1, before)))
        else:
            fill(weights[None], given[name][None])
    return wider


def fill(weights: Tensor, given: Tensor) -> None:
    """Put (gates, rows, columns) that are given into more of them; their new columns are zero."""
    rows = weights[:, : given.shape[1]]
    rows.zero_()
    rows[..., : given.shape[-1]] = given


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path, help="character model, or model with one")
    parser.add_argument("--units", type=int, required=True, help="of each layer")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)  # the weights of the new units are drawn
    try:
        model = widen(load_character_model(options.model), options.units)
        save_character_model(options.output, model)
    except AsrError as error:
        raise SystemExit(f"widen: error: {error}") from error
    count = sum(weights.numel() for weights in model.parameters())
    print(f"{options.output}: {options.units} units a layer, {count:,} weights")


if __name__ == "__main__":
    main()
