"""``asr evaluate``: how well a model does on a corpus."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asr.cli.messages import audio_progress, print_error
from asr.cli.options import (
    BATCH_SECONDS,
    BatchSeconds,
    BeamWidth,
    CharLm,
    CharLmWeight,
    CharScore,
    Device,
    Hotwords,
    HotwordScore,
    Json,
    LanguageModel,
    Lexicon,
    LmWeight,
    Method,
    Model,
    WordScore,
    load_transcriber,
)
from asr.errors import AsrError, ManifestError

if TYPE_CHECKING:
    from asr.data.manifest import Utterance
    from asr.transcriber import Transcriber, Transcript


def evaluate(
    manifest: Annotated[Path, typer.Argument(help="JSONL manifest with references.")],
    model: Model = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for report.html, report.json and utterances.jsonl."),
    ] = None,
    media: Annotated[
        int,
        typer.Option(
            min=0, help="Utterances with sound and spectrogram in report.html; the worst mainly."
        ),
    ] = 30,
    hypotheses: Annotated[
        Path | None,
        typer.Option(help="Score this utterances.jsonl instead of transcribing."),
    ] = None,
    as_json: Json = False,
    device: Device = None,
    batch_seconds: BatchSeconds = BATCH_SECONDS,
    decoder: Method = None,
    lm: LanguageModel = None,
    lexicon: Lexicon = None,
    lm_weight: LmWeight = None,
    word_score: WordScore = None,
    char_lm: CharLm = None,
    char_lm_weight: CharLmWeight = None,
    char_score: CharScore = None,
    beam_width: BeamWidth = None,
    hotwords: Hotwords = None,
    hotword_score: HotwordScore = None,
) -> None:
    """Transcribe a manifest and measure word and character error rates.

    A recording that cannot be read counts as one in which nothing was recognised, and makes the
    exit code 1.
    """
    from asr.atomic import check_writable
    from asr.cli.page import write_evaluation_page
    from asr.cli.report import describe, write_results
    from asr.data.manifest import read_manifest
    from asr.scoring.report import score
    from asr.scoring.utterances import score_utterance

    models = (model, lm, lexicon, char_lm, hotwords)
    settings = (decoder, lm_weight, word_score, char_lm_weight, char_score, beam_width)
    if hypotheses and {*models, *settings, hotword_score} != {None}:
        raise typer.BadParameter(
            "--hypotheses needs no model and no settings of a decoder: nothing is transcribed"
        )
    if output:
        for name in ("utterances.jsonl", "report.json", "report.html"):
            check_writable(output / name)  # better refused now than after the work
    utterances = read_manifest(manifest)
    details: dict[str, Any] = {"manifest": str(manifest)}
    transcriber, transcripts = None, None
    if hypotheses:
        texts = _read_hypotheses(hypotheses, utterances)
    else:
        transcriber = load_transcriber(
            model,
            device,
            language_model=lm,
            character_model=char_lm,
            lexicon=lexicon,
            hotwords=hotwords,
            method=decoder,
            lm_weight=lm_weight,
            word_score=word_score,
            char_lm_weight=char_lm_weight,
            char_score=char_score,
            beam_width=beam_width,
            hotword_score=hotword_score,
        )
        start = time.perf_counter()
        transcripts = _transcribe(transcriber, utterances, batch_seconds)
        texts = [transcript.text if transcript else "" for transcript in transcripts]
        seconds = time.perf_counter() - start
        details |= {
            "model": str(model or "packaged"),
            "device": str(transcriber.device),
            "failures": transcripts.count(None),
        }
        pairs = zip(utterances, transcripts, strict=True)
        if done := sum(utterance.duration for utterance, found in pairs if found is not None):
            details["rtf"] = seconds / done
    scored = [
        score_utterance(
            utterance.id,
            utterance.text,
            text,
            audio=str(utterance.audio),
            duration=utterance.duration,
            speaker=utterance.speaker,
        )
        for utterance, text in zip(utterances, texts, strict=True)
    ]
    report = score(scored)
    entry = json.dumps(report.to_json() | details, ensure_ascii=False, indent=2)
    try:
        typer.echo(entry if as_json else describe(report))
        if "rtf" in details and not as_json:
            typer.echo(f"\nspeed: {1 / details['rtf']:.1f} x real time on {details['device']}")
    finally:  # whoever reads may have left
        if output:
            write_results(output, entry, scored)
            write_evaluation_page(
                output / "report.html",
                report,
                scored,
                details | {"hypotheses": str(hypotheses)},
                transcriber=transcriber,
                transcripts=transcripts,
                media=media,
            )
    if details.get("failures"):
        raise typer.Exit(1)


def _transcribe(
    transcriber: "Transcriber", utterances: "Sequence[Utterance]", batch_seconds: float
) -> "list[Transcript | None]":
    """Return a transcript per utterance, ``None`` for those that cannot be read."""
    paths = [utterance.audio for utterance in utterances]
    transcripts: list[Transcript | None] = []
    seconds = sum(utterance.duration for utterance in utterances)
    with audio_progress(paths, seconds) as on_progress:
        for result in transcriber.transcribe_many(paths, batch_seconds, on_progress):
            if isinstance(result, AsrError):
                print_error(result)
            transcripts.append(None if isinstance(result, AsrError) else result)
    return transcripts


def _read_hypotheses(path: Path, utterances: "Sequence[Utterance]") -> list[str]:
    from asr.scoring.files import read_utterances

    texts = {scored.id: scored.hypothesis for scored in read_utterances(path)}
    missing = [utterance.id for utterance in utterances if utterance.id not in texts]
    if missing:
        raise ManifestError(
            f"{path}: lacks {len(missing)} utterances of the manifest, such as {missing[0]!r}; "
            "evaluate the whole manifest"
        )
    return [texts[utterance.id] for utterance in utterances]
