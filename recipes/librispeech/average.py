"""Average the weights of models that were trained onwards from the same one.

    python recipes/librispeech/average.py start.asr a.asr b.asr --shares 1 1 1 --output mean.asr

Such models lie in one valley of the loss, and their mean is often better than each of them
(Wortsman et al. 2022, "Model soups"). Choose the shares on validation data. Everything but the
weights, the decoder's settings and the language model too, is that of the first model.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import get_args

from asr.bundle import Bundle, Precision, load_bundle
from asr.checkpoint import mean_weights, settings_of
from asr.errors import AsrError, ConfigError


def average(bundles: list[Bundle], shares: list[float]) -> Bundle:
    """Give the first model the mean of all weights.

    Raises:
        ConfigError: the models differ in front end, encoder, alphabet or phones; the
            shares do not belong to them.
    """
    if len(shares) != len(bundles) or sum(shares) <= 0:
        raise ConfigError(f"--shares has {shares} for {len(bundles)} models; give each a share")
    first = bundles[0]
    model = first.model
    for bundle in bundles[1:]:
        if settings_of(bundle.model) != settings_of(model):
            raise ConfigError(
                f"{bundle.path}: is built otherwise than {first.path}; only models that were "
                "trained onwards from the same one have a mean"
            )
    states = [bundle.model.state_dict() for bundle in bundles]
    model.load_state_dict(mean_weights(states, shares))
    return first


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--shares", type=float, nargs="+", help="of each model; equal if not given")
    parser.add_argument(
        "--precision", choices=get_args(Precision), help="of what is written; else the first's"
    )
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    try:
        bundles = [load_bundle(path) for path in options.models]
        mean = average(bundles, options.shares or [1.0] * len(bundles))
        replace(mean, precision=options.precision or mean.precision).save(options.output)
    except AsrError as error:
        raise SystemExit(f"average: error: {error}") from error
    print(f"{options.output}: the mean of {len(bundles)} models")


if __name__ == "__main__":
    main()
