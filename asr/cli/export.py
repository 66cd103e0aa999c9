"""``asr export``: a training checkpoint to a model bundle."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="Checkpoint (.ckpt), or run folder: its best one is taken.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model bundle to write (.asr).")],
    card: Annotated[
        Path | None, typer.Option(help="Model card, Markdown: data, licences, error rates, limits.")
    ] = None,
    precision: Annotated[
        Literal["float32", "float16", "int8"],
        typer.Option(help="Of the weights in the file: 4, 2 or 1 byte each."),
    ] = "float16",
    average: Annotated[
        int,
        typer.Option(min=1, help="Mean of the weights of so many of a run's best checkpoints."),
    ] = 1,
    like: Annotated[
        Path | None,
        typer.Option(
            help="Model whose decoder, language models and pronunciations to take as well, such as "
            "the one that training started from."
        ),
    ] = None,
) -> None:
    """Make a model bundle, which needs no other file, from a training checkpoint."""
    from asr.atomic import check_writable
    from asr.bundle import Bundle, load_bundle
    from asr.checkpoint import best_checkpoints, load_average
    from asr.decoding.config import DecoderConfig
    from asr.errors import BundleError, ConfigError, reason_of

    check_writable(output)  # better refused now than after the work
    checkpoints = best_checkpoints(checkpoint) if checkpoint.is_dir() else [checkpoint]
    if not 1 <= average <= len(checkpoints):
        raise BundleError(
            f"{checkpoint}: --average {average} is not in 1 to {len(checkpoints)}; only a run "
            "folder has several best checkpoints"
        )
    text = f"# {output.stem}\n\nThis model was exported without a card.\n"
    if card:
        try:
            text = card.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{card}: cannot read this card: {reason_of(error)}") from error
    model = load_average(checkpoints[:average])
    bundle = Bundle(model, DecoderConfig(), text, output, precision=precision)
    if like:
        other = load_bundle(like)
        ours, theirs = (
            (m.tokenizer.alphabet, m.phone_tokenizer and m.phone_tokenizer.phones)
            for m in (model, other.model)
        )
        if ours != theirs:
            raise ConfigError(f"{like}: has another alphabet or other phones than this training")
        bundle = replace(other, model=model, card=text, precision=precision)
    bundle.save(output)
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB")
