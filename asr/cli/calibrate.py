"""``asr calibrate``: confidences that mean what they say."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.messages import audio_progress, print_error
from asr.cli.options import BATCH_SECONDS, BatchSeconds, Device, Model
from asr.errors import AsrError, ConfigError

if TYPE_CHECKING:
    from asr.data.manifest import Utterance
    from asr.transcriber import Transcriber


def calibrate(
    manifest: Annotated[
        Path, typer.Argument(help="JSONL manifest of validation data, never of test data.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model bundle to write.")],
    model: Model = None,
    plot: Annotated[Path | None, typer.Option(help="Picture before and after, PNG or SVG.")] = None,
    device: Device = None,
    batch_seconds: BatchSeconds = BATCH_SECONDS,
) -> None:
    """Fit the confidences of a model's words to how often such words are right.

    A word is right if the best alignment with the reference matches it to the same word. Half of
    the utterances serve for the fit, the other half for the calibration error that is printed;
    the stored calibration is fitted to all of them. A recording that cannot be read is left out,
    and makes the exit code 1.
    """
    from asr.archive import packaged_model
    from asr.atomic import check_writable
    from asr.bundle import load_bundle
    from asr.data.manifest import read_manifest
    from asr.decoding.calibration import fit_calibration, reliability
    from asr.transcriber import Transcriber

    check_writable(output)  # better refused now than after the work
    if plot:
        from asr.plots.reliability import draw_reliability
        from asr.plots.style import check_picture, save, style

        check_picture(plot)
    path = model or packaged_model()
    utterances = read_manifest(manifest)
    raw = Transcriber.load(path, device, confidence_scale=1.0, confidence_offset=0.0)
    judged = _judge(raw, utterances, batch_seconds)
    fit_part = [word for words in judged[::2] for word in words]
    held_out = [word for words in judged[1::2] for word in words]
    if not fit_part or not held_out:
        raise ConfigError(
            f"{manifest}: too little was recognised to calibrate on; give more speech"
        )
    part = fit_calibration(*zip(*fit_part, strict=True))
    confidences, right = zip(*held_out, strict=True)
    panels = []
    for title, values in (
        ("as the model gives them", confidences),
        ("calibrated", [part(confidence) for confidence in confidences]),
    ):
        bins, error = reliability(values, right)
        panels.append((title, bins, error))
        typer.echo(f"expected calibration error {title}: {error:.2%} of {len(right):,} words")
    if plot:
        with style():
            save(draw_reliability(panels), plot)
    whole = fit_calibration(*zip(*fit_part, *held_out, strict=True))
    bundle = load_bundle(path)
    decoder = replace(
        bundle.decoder,
        confidence_scale=round(whole.scale, 4),
        confidence_offset=round(whole.offset, 4),
    )
    replace(bundle, decoder=decoder).save(output)
    typer.echo(
        f"{output}: confidence_scale {decoder.confidence_scale}, "
        f"confidence_offset {decoder.confidence_offset}"
    )
    if len(judged) < len(utterances):
        raise typer.Exit(1)


def _judge(
    transcriber: "Transcriber", utterances: "list[Utterance]", batch_seconds: float
) -> list[list[tuple[float, bool]]]:
    """Return confidence and rightness of the words of each utterance that can be read."""
    from asr.decoding.calibration import right_words
    from asr.text import normalise

    judged = []
    paths = [utterance.audio for utterance in utterances]
    seconds = sum(utterance.duration for utterance in utterances)
    with audio_progress(paths, seconds) as on_progress:
        results = transcriber.transcribe_many(paths, batch_seconds, on_progress)
        for utterance, result in zip(utterances, results, strict=True):
            if isinstance(result, AsrError):
                print_error(result)
                continue
            words = [word.word for word in result.words]
            right = right_words(normalise(utterance.text).split(), words)
            confidences = [word.confidence for word in result.words]
            judged.append(list(zip(confidences, right, strict=True)))
    return judged
