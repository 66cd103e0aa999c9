"""``asr check``: look at a manifest before training on it."""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer


def check(
    manifest: Annotated[Path, typer.Argument(help="JSONL manifest.")],
    alphabet: Annotated[
        str | None, typer.Option(help="Characters of the model; English if not given.")
    ] = None,
    subsampling: Annotated[
        int, typer.Option(min=2, max=4, help="Feature frames for one frame of the encoder.")
    ] = 4,
    model: Annotated[
        Path | None, typer.Option(help="Take alphabet and frames from this model instead.")
    ] = None,
    audio: Annotated[bool, typer.Option(help="Decode every recording.")] = True,
    limit: Annotated[int, typer.Option(min=0, help="Utterances named for each problem.")] = 20,
) -> None:
    """Report what a manifest holds and what in it cannot be trained on.

    Counts, hours, durations and characters; unknown characters, recordings that are missing,
    damaged or of another duration, utterances too short for their text, and those without text.
    Exit code 1 if anything is unusable, which the last are not.
    """
    from asr.data.check import check_utterances, describe
    from asr.data.manifest import read_manifest
    from asr.features import FeatureConfig
    from asr.models.encoder import EncoderConfig
    from asr.text import ENGLISH, CharTokenizer

    features, encoder = (
        FeatureConfig(),
        EncoderConfig(subsampling=cast(Literal[2, 3, 4], subsampling)),
    )
    tokenizer = CharTokenizer(alphabet or ENGLISH)
    if model is not None:
        from asr.bundle import load_bundle

        trained = load_bundle(model).model
        features, encoder = trained.features_config, trained.encoder_config
        tokenizer = trained.tokenizer

    def output_frames(seconds: float) -> int:
        return encoder.output_length(features.num_frames(round(seconds * features.sample_rate)))

    report = check_utterances(read_manifest(manifest), tokenizer, output_frames, read_audio=audio)
    typer.echo(describe(report, limit))
    if any(problem.kind != "no text" for problem in report.problems):
        raise typer.Exit(1)
