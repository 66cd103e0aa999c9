"""``asr info``: what a model is."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def info(
    model: Annotated[
        Path | None, typer.Argument(help="Model bundle; the packaged one if not given.")
    ] = None,
) -> None:
    """Print the card of a model, its settings and its size."""
    from asr.archive import packaged_model
    from asr.bundle import load_bundle

    bundle = load_bundle(model or packaged_model())
    parameters = sum(parameter.numel() for parameter in bundle.model.parameters())
    phones = bundle.model.phone_tokenizer
    rows = {
        "file": f"{bundle.path} ({bundle.path.stat().st_size / 1e6:.1f} MB)",
        "parameters": f"{parameters:,}",
        "alphabet": repr(bundle.model.tokenizer.alphabet),
        "phones": " ".join(phones.phones) if phones else "none",
        "features": _settings(asdict(bundle.model.features_config)),
        "encoder": _settings(asdict(bundle.model.encoder_config)),
        "decoder": _settings(asdict(bundle.decoder)),
    }
    typer.echo(bundle.card.rstrip() + "\n")
    for name, value in rows.items():
        typer.echo(f"{name:12}{value}")


def _settings(values: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
