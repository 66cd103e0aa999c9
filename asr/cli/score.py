"""``asr score``: error rates between two text files."""

import json
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Json
from asr.errors import ManifestError, reason_of


def score(
    reference: Annotated[Path, typer.Argument(help="Text file, one reference a line.")],
    hypothesis: Annotated[Path, typer.Argument(help="Text file, one hypothesis a line.")],
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for report.html, report.json and utterances.jsonl."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure word and character error rates between two text files, line by line."""
    from asr.cli.page import write_evaluation_page
    from asr.cli.report import describe, write_results
    from asr.scoring.report import score as score_all
    from asr.scoring.utterances import score_utterance
    from asr.text import normalise

    references, hypotheses = _read_lines(reference), _read_lines(hypothesis)
    if not any(map(normalise, references)):
        raise ManifestError(f"{reference}: has no word; give one reference a line")
    if len(references) != len(hypotheses):
        raise ManifestError(
            f"{hypothesis}: has {len(hypotheses)} lines, {reference} has {len(references)}; "
            "give each reference one line, empty if nothing was recognised"
        )
    pairs = zip(references, hypotheses, strict=True)
    scored = [score_utterance(f"line {i}", *pair) for i, pair in enumerate(pairs, 1)]
    report = score_all(scored)
    entry = json.dumps(report.to_json(), ensure_ascii=False, indent=2)
    try:
        typer.echo(entry if as_json else describe(report))
    finally:  # whoever reads may have left
        if output:
            write_results(output, entry, scored)
            details = {"reference": str(reference), "hypotheses": str(hypothesis)}
            write_evaluation_page(output / "report.html", report, scored, details)


def _read_lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot read this text: {reason_of(error)}") from error
    return text.removesuffix("\n").split("\n")
