"""How the scoring commands print a report, and the files that they write."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.scoring.report import Group, Report
    from asr.scoring.utterances import ScoredUtterance

SHOWN = 10  # of each list; the JSON holds all


def describe(report: "Report") -> str:
    """Return a report as text for people."""
    parts = [_rates(report)]
    if len(report.by_speaker) > 1:
        parts.append(_groups("speaker", report.by_speaker[:SHOWN]))
    if len(report.by_duration) > 1:
        parts.append(_groups("duration", report.by_duration))
    if report.confusions:
        rows = [
            (
                f"{pair.reference or '(inserted)'} -> {pair.hypothesis or '(deleted)'}",
                str(pair.count),
            )
            for pair in report.confusions[:SHOWN]
        ]
        parts.append(table(("most frequent errors", "count"), rows))
    parts += [_pair(utterance) for utterance in report.worst[:3]]
    return "\n\n".join(parts)


def write_results(folder: Path, entry: str, scored: "Sequence[ScoredUtterance]") -> None:
    """Write ``report.json`` and ``utterances.jsonl``, each whole or not at all."""
    from asr.atomic import whole_file
    from asr.scoring.files import write_utterances

    write_utterances(folder / "utterances.jsonl", scored)
    with whole_file(folder / "report.json") as partial:
        partial.write_bytes((entry + "\n").encode("utf-8", errors="backslashreplace"))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return aligned columns: the first to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _rates(report: "Report") -> str:
    low, high = report.wer_ci
    cer_low, cer_high = report.cer_ci
    unit = "speakers" if report.resampled_by == "speaker" else "utterances"
    return (
        f"WER  {report.wer:7.2%}  ({low:.2%} to {high:.2%})\n"
        f"CER  {report.cer:7.2%}  ({cer_low:.2%} to {cer_high:.2%})\n"
        f"     95 % intervals, bootstrap over {unit}\n"
        f"{report.utterances} utterances, {report.seconds / 3600:.2f} hours, "
        f"{report.words} words: {report.hits} hits, {report.substitutions} substitutions, "
        f"{report.deletions} deletions, {report.insertions} insertions"
    )


def _groups(title: str, groups: Iterable["Group"]) -> str:
    rows = [
        (
            group.name,
            str(group.utterances),
            str(group.words),
            f"{group.wer:.2%}",
            f"{group.cer:.2%}",
        )
        for group in groups
    ]
    return table((title, "utterances", "words", "WER", "CER"), rows)


def _pair(utterance: "ScoredUtterance") -> str:
    return (
        f"{utterance.id}: {utterance.words.errors} word errors\n"
        f"  reference   {utterance.reference}\n"
        f"  hypothesis  {utterance.hypothesis}"
    )
