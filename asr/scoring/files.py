"""``utterances.jsonl``: each utterance's reference beside its hypothesis."""

import json
import math
from collections.abc import Iterable
from pathlib import Path

from asr.atomic import whole_file
from asr.data.manifest import as_name
from asr.errors import ManifestError, reason_of
from asr.scoring.utterances import ScoredUtterance, score_utterance


def write_utterances(path: str | Path, utterances: Iterable[ScoredUtterance]) -> None:
    """Write one JSON object a line, see :class:`asr.scoring.utterances.Row`; whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    with (
        whole_file(path) as partial,
        partial.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        for utterance in utterances:
            file.write(json.dumps(utterance.to_row(), ensure_ascii=False) + "\n")


def read_utterances(path: str | Path) -> list[ScoredUtterance]:
    """Read what :func:`write_utterances` wrote and count the errors anew.

    A folder stands for its ``utterances.jsonl``. ``id``, ``reference`` and ``hypothesis`` are
    needed, the other keys are not.

    Raises:
        ManifestError: the file is missing, empty or malformed, or an id comes twice.
    """
    path = Path(path)
    if path.is_dir():
        path /= "utterances.jsonl"
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot read these results: {reason_of(error)}") from error
    utterances: dict[str, ScoredUtterance] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            utterance = _parse(line, f"{path}:{number}")
            if utterance.id in utterances:
                raise ManifestError(f"{path}:{number}: id {utterance.id!r} comes twice")
            utterances[utterance.id] = utterance
    if not utterances:
        raise ManifestError(f"{path}: holds no results; evaluate again with --output")
    return list(utterances.values())


def _parse(line: str, where: str) -> ScoredUtterance:
    try:
        row = json.loads(line)
        duration, audio = float(row.get("duration") or 0), row.get("audio") or ""
        if not (0 <= duration < math.inf and isinstance(audio, str) and as_name(row["id"])):
            raise ValueError("an id has letters, a duration an end, and audio is a path")
        return score_utterance(
            as_name(row["id"]),
            row["reference"],
            row["hypothesis"],
            audio=audio,
            duration=duration,
            speaker=as_name(row.get("speaker")),
        )
    except (
        ArithmeticError,
        AttributeError,
        KeyError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise ManifestError(
            f"{where}: not an object with id, reference and hypothesis; "
            "give the utterances.jsonl of asr evaluate"
        ) from error
