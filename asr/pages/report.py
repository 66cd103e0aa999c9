"""``report.html``: all that an evaluation found, to look at and to listen to."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from asr.decoding.calibration import reliability
from asr.pages.document import write_page
from asr.scoring.report import Report, duration_band
from asr.scoring.utterances import Pair, ScoredUtterance

if TYPE_CHECKING:
    from asr.transcriber import Transcript

MOST_CHARACTERS = 40  # in the confusion matrix


def write_report(
    path: str | Path,
    report: Report,
    utterances: Sequence[ScoredUtterance],
    *,
    title: str,
    subtitle: str = "",
    setting: Mapping[str, str] | None = None,
    transcripts: "Sequence[Transcript | None] | None" = None,
    media: Mapping[int, Mapping[str, Any]] | None = None,
    symbols: Sequence[str] = (),
) -> None:
    """Write the page of one system.

    Args:
        path: file to write.
        report: the scores.
        utterances: what was scored.
        title: what stands above, such as the name of the test data.
        subtitle: what stands below it.
        setting: how the results came about, as names and values.
        transcripts: word times and confidences of the utterances, ``None`` for each without.
        media: sound and pictures of some utterances, by index, see
            :func:`asr.pages.media.embed`.
        symbols: character or phone of each token after the blank, for the posteriors.

    Raises:
        OSError: the file cannot be written.
    """
    words = [_words(*pair) for pair in zip(utterances, transcripts or (), strict=False)]
    words += [None] * (len(utterances) - len(words))
    data = {
        "title": title,
        "subtitle": subtitle,
        "setting": dict(setting or {}),
        "report": {key: value for key, value in report.to_json().items() if key != "worst"},
        "calibration": _calibration(utterances, words),
        "characters": _characters(utterances),
        "symbols": list(symbols),
        "utterances": [
            _row(utterance, words[i], path, has_media=i in (media or {}))
            for i, utterance in enumerate(utterances)
        ],
    }
    write_page(path, "report", data, media)


def operations(alignment: Sequence[Pair]) -> str:
    """Return an alignment as one letter a word: ``=``, ``S``, ``D`` or ``I``."""
    return "".join(
        "I" if not reference else "D" if not hypothesis else "S" if reference != hypothesis else "="
        for reference, hypothesis in alignment
    )


def link(audio: str, page: str | Path) -> str:
    """Return the address of a recording as seen from a page, relative where possible."""
    folder = Path(page).parent
    try:
        relative = os.path.relpath(audio, folder)
    except ValueError:  # on another drive of Windows
        return Path(audio).absolute().as_uri()
    return quote(os.fsencode(relative.replace(os.sep, "/")))


def _words(
    utterance: ScoredUtterance, transcript: "Transcript | None"
) -> list[tuple[float, float, float]] | None:
    """Return start, end and confidence of each word of the hypothesis, if they are its words."""
    if transcript is None:
        return None
    if [word.word for word in transcript.words] != utterance.hypothesis.split():
        return None  # normalising changed them
    return [(word.start, word.end, word.confidence) for word in transcript.words]


def _row(
    utterance: ScoredUtterance,
    words: list[tuple[float, float, float]] | None,
    page: str | Path,
    *,
    has_media: bool,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": utterance.id,
        "speaker": utterance.speaker,
        "duration": round(utterance.duration, 3),
        "reference": utterance.reference,
        "hypothesis": utterance.hypothesis,
        "operations": operations(utterance.alignment),
        "cer": round(utterance.characters.rate, 4),
    }
    if utterance.duration:
        row["band"] = duration_band(utterance.duration)
    if utterance.audio:
        row["audio"] = link(utterance.audio, page)
    if words:
        row["words"] = [round(100 * value) for word in words for value in word]
    if has_media:
        row["has_media"] = True
    return row


def _calibration(
    utterances: Sequence[ScoredUtterance],
    words: Sequence[list[tuple[float, float, float]] | None],
) -> dict[str, Any] | None:
    confidences, right = [], []
    for utterance, timed in zip(utterances, words, strict=True):
        if timed:
            confidences += [confidence for *_, confidence in timed]
            heard = [pair for pair in utterance.alignment if pair[1]]
            right += [reference == hypothesis for reference, hypothesis in heard]
    if not confidences:
        return None
    bins, error = reliability(confidences, right)
    return {
        "error": error,
        "bins": [
            {"words": b.words, "confidence": b.confidence, "accuracy": b.accuracy} for b in bins
        ],
    }


def _characters(utterances: Sequence[ScoredUtterance]) -> dict[str, Any]:
    """Return how often each character occurs and which were confused with which."""
    occurrences = Counter(character for u in utterances for character in u.reference)
    confused = Counter(pair for u in utterances for pair in u.character_differences)
    wrong: Counter[str] = Counter()
    for pair, count in confused.items():
        for character in pair:
            wrong[character] += count
    known = [character for character, _ in wrong.most_common() if character][:MOST_CHARACTERS]
    shown = {*known, ""}
    return {
        "characters": [(character, occurrences[character]) for character in sorted(known)],
        "confusions": [(*pair, n) for pair, n in confused.most_common() if shown.issuperset(pair)],
    }
