"""Add recurrent layers to a trained model, which at first change nothing.

    python recipes/librispeech/deepen.py model.asr --layers 1 --output deeper.asr
    python recipes/librispeech/train.py --init_from deeper.asr --config ...

The new layers are the last of the stack. Its steps are residual, and what a new cell would write
is multiplied by zero, so that the deeper model says what the one before said, and learns to use
its new units from there (Chen et al. 2016, "Net2Net"; Bachlechner et al. 2021, "ReZero").
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from asr.bundle import Bundle, load_bundle
from asr.errors import AsrError, ConfigError
from asr.models.ctc import CtcModel


def deepen(bundle: Bundle, layers: int) -> CtcModel:
    """Return a model of ``layers`` more recurrent layers and the same output.

    Raises:
        ConfigError: no layer is to be added, or what is silent could not learn.
    """
    model = bundle.model
    config = model.encoder_config
    if layers < 1:
        raise ConfigError(f"--layers {layers} adds nothing; give 1 or more")
    if config.cell == "rnn_relu":
        raise ConfigError(
            f"{bundle.path}: rnn_relu cells cannot learn from zero, where they have no slope; "
            "train a deeper model from the beginning"
        )
    config = replace(config, num_layers=config.num_layers + layers)
    phones = model.phone_tokenizer.phones if model.phone_tokenizer else ()
    deeper = CtcModel(model.features_config, config, model.tokenizer.alphabet, phones)
    for module in deeper.encoder.blocks[-layers:].modules():
        if isinstance(module, nn.RNNBase):
            silence(module)
    deeper.load_state_dict(deeper.state_dict() | model.state_dict())
    return deeper


def silence(cell: nn.RNNBase) -> None:
    """Let a cell propose nothing but zeros for its state, which starts from zeros as well."""
    gate = 0 if cell.mode == "RNN_TANH" else 2  # PyTorch's order: i, f, g, o and r, z, n
    candidate = slice(gate * cell.hidden_size, (gate + 1) * cell.hidden_size)
    with torch.no_grad():
        for name, weights in cell.named_parameters():
            if name != "weight_hh_l0":  # it meets nothing but zeros, and stays orthogonal
                weights[candidate] = 0


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--layers", type=int, default=1, help="how many to add (default: 1)")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)  # the gates of the new cells are drawn
    try:
        bundle = load_bundle(options.model)
        model = deepen(bundle, options.layers)
        replace(bundle, model=model).save(options.output)
    except AsrError as error:
        raise SystemExit(f"deepen: error: {error}") from error
    print(f"{options.output}: {model.encoder_config.num_layers} recurrent layers")


if __name__ == "__main__":
    main()
