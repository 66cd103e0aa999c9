"""The page that lays two systems side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asr.pages.document import write_page
from asr.pages.report import link, operations
from asr.scoring.bootstrap import Comparison, paired
from asr.scoring.report import Group, score
from asr.scoring.utterances import ScoredUtterance


def write_comparison(
    path: str | Path,
    comparison: Comparison,
    a: Sequence[ScoredUtterance],
    b: Sequence[ScoredUtterance],
    *,
    names: tuple[str, str],
    subtitle: str = "",
    setting: Mapping[str, str] | None = None,
) -> None:
    """Write the page of two systems.

    Args:
        path: file to write.
        comparison: what :func:`asr.scoring.bootstrap.compare` found.
        a: results of the first system.
        b: results of the second on the same utterances, in any order.
        names: of the systems.
        subtitle: what stands below the title.
        setting: how the results came about, as names and values.

    Raises:
        OSError: the file cannot be written.
    """
    a, b = paired(a, b)
    report_a, report_b = score(a), score(b)
    data = {
        "title": f"{names[0]} and {names[1]}",
        "subtitle": subtitle,
        "names": names,
        "setting": dict(setting or {}),
        "comparison": asdict(comparison),
        "words": report_a.words,
        "wer_ci_a": report_a.wer_ci,
        "wer_ci_b": report_b.wer_ci,
        "by_speaker": _by_speaker(report_a.by_speaker, report_b.by_speaker),
        "utterances": [_row(*pair, path) for pair in zip(a, b, strict=True)],
    }
    write_page(path, "comparison", data)


def _by_speaker(a: Sequence[Group], b: Sequence[Group]) -> list[dict[str, Any]]:
    rates = {group.name: group.wer for group in b}
    speakers = [
        {
            "name": group.name,
            "utterances": group.utterances,
            "wer_a": group.wer,
            "wer_b": rates[group.name],
        }
        for group in a
    ]
    return sorted(speakers, key=lambda speaker: speaker["wer_b"] - speaker["wer_a"])


def _row(a: ScoredUtterance, b: ScoredUtterance, page: str | Path) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": a.id,
        "speaker": a.speaker,
        "duration": round(a.duration, 3),
        "reference": a.reference,
        "a": _side(a),
        "b": _side(b),
    }
    if a.audio:
        row["audio"] = link(a.audio, page)
    return row


def _side(utterance: ScoredUtterance) -> dict[str, str]:
    return {
        "hypothesis": utterance.hypothesis,
        "operations": operations(utterance.alignment),
    }
