"""``asr lm tune``: decoder settings from validation data."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.messages import audio_progress, print_error
from asr.cli.options import Device, Lexicon, Model
from asr.errors import AsrError, LanguageModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from asr.data.manifest import Utterance
    from asr.decoding.tuning import Trial
    from asr.transcriber import Transcriber


def tune(
    manifest: Annotated[
        Path, typer.Argument(help="JSONL manifest of validation data, never of test data.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Model bundle to write, with settings and LM.")
    ],
    model: Model = None,
    lm: Annotated[
        Path | None, typer.Option(help="ARPA file, plain or .gz; the model's own if not given.")
    ] = None,
    lexicon: Lexicon = None,
    plot: Annotated[
        Path | None, typer.Option(help="Picture of the word error rates, PNG or SVG.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes; one per processor if not given.")
    ] = None,
    device: Device = None,
) -> None:
    """Find the settings of the beam that make the fewest errors, and store them with the model.

    Recordings are recognised once; each trial only decodes. The new bundle holds the language
    model, so that asr transcribe needs nothing else.
    """
    from asr.bundle import load_bundle, packaged_model, save_bundle
    from asr.data.manifest import read_manifest
    from asr.decoding.pool import DecoderPool
    from asr.decoding.tuning import tune as search
    from asr.lm.lexicon import read_lexicon
    from asr.transcriber import Transcriber, choose_device

    utterances = read_manifest(manifest)
    bundle = load_bundle(model or packaged_model())
    alphabet = bundle.model.tokenizer.alphabet
    content = _compressed(lm) if lm else bundle.language_model
    if content is None:
        raise LanguageModelError(f"{bundle.path}: holds no language model; give one with --lm")
    log_probs = _log_probs(Transcriber(bundle.model, choose_device(device)), utterances)
    references = [utterance.text for utterance in utterances if utterance.id in log_probs]
    rows = list(log_probs.values())
    words = read_lexicon(lexicon) if lexicon else None
    packed = replace(bundle, language_model=content)
    with (
        packed.language_model_file() as path,
        DecoderPool(alphabet, str(path), words, jobs) as pool,
    ):
        chosen, trials = search(
            lambda config: [n_best[0].text for n_best in pool.decode(rows, config)],
            references,
            bundle.decoder,
            _tell,
        )
    typer.echo(
        f"\nchosen: lm_weight {chosen.lm_weight:g}, word_score {chosen.word_score:g}, "
        f"unknown_score {chosen.unknown_score:g}, beam_width {chosen.beam_width}"
    )
    if plot:
        from asr.plots.wer_surface import draw_wer_surface

        title = f"{len(references)} utterances of {manifest.name}"
        draw_wer_surface(trials, chosen, title).savefig(plot, dpi=100)
    save_bundle(output, bundle.model, chosen, bundle.card, language_model=content)
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB")


def _log_probs(
    transcriber: "Transcriber", utterances: "list[Utterance]"
) -> "dict[str, NDArray[np.float32]]":
    """Return those of each utterance whose recording can be read."""
    found = {}
    paths = [utterance.audio for utterance in utterances]
    with audio_progress(paths) as on_progress:
        results = transcriber.log_probs_of(paths, on_progress=on_progress)
        for utterance, result in zip(utterances, results, strict=True):
            if isinstance(result, AsrError):
                print_error(result)
            else:
                found[utterance.id] = result
    if not found:
        raise LanguageModelError("no recording could be read, so there is nothing to tune on")
    return found


def _compressed(path: Path) -> bytes:
    """Return the file's content, compressed."""
    import gzip

    try:
        content = path.read_bytes()
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot read this language model: {error}") from error
    return content if path.suffix == ".gz" else gzip.compress(content, 6, mtime=0)


def _tell(trial: "Trial") -> None:
    config = trial.config
    typer.echo(
        f"lm_weight {config.lm_weight:<5g} word_score {config.word_score:<5g} "
        f"unknown_score {config.unknown_score:<5g} beam_width {config.beam_width:<4d} "
        f"WER {trial.wer:7.2%}  {trial.seconds:5.1f} s"
    )
