"""The score of a whole test set."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from asr.errors import ManifestError
from asr.scoring.bootstrap import Interval, Unit, rate_interval, resampling_unit
from asr.scoring.utterances import ScoredUtterance, total

DURATION_EDGES = (2, 5, 10, 15, 20)  # seconds
MOST_CONFUSIONS = 20
WORST_UTTERANCES = 10


@dataclass(frozen=True, slots=True)
class Group:
    """The rates of some of the utterances; ``words`` counts the reference's.

    ``wer_ci`` is the 95 % bootstrap interval.
    """

    name: str
    utterances: int
    seconds: float
    words: int
    wer: float
    wer_ci: Interval
    cer: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """A frequent error; an empty hypothesis is a deletion, an empty reference an insertion."""

    reference: str
    hypothesis: str
    count: int


@dataclass(frozen=True, slots=True)
class Report:
    """Corpus-level rates, as fractions: all errors divided by all reference words or characters.

    Attributes:
        utterances: how many were scored.
        seconds: their audio.
        words: reference words.
        hits: reference words that were recognised.
        substitutions: reference words recognised as others.
        deletions: reference words missed.
        insertions: words that the references lack.
        wer: word error rate.
        wer_ci: its 95 % bootstrap interval.
        characters: reference characters, spaces included.
        cer: character error rate.
        cer_ci: its 95 % bootstrap interval.
        resampled_by: what the bootstrap drew, speakers or utterances.
        by_speaker: each speaker, worst first; empty if no speaker is known.
        by_duration: from short to long; empty if no duration is known.
        confusions: most frequent errors.
        worst: utterances with the most word errors.
    """

    utterances: int
    seconds: float
    words: int
    hits: int
    substitutions: int
    deletions: int
    insertions: int
    wer: float
    wer_ci: Interval
    characters: int
    cer: float
    cer_ci: Interval
    resampled_by: Unit
    by_speaker: tuple[Group, ...]
    by_duration: tuple[Group, ...]
    confusions: tuple[Confusion, ...]
    worst: tuple[ScoredUtterance, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as an object that ``json`` can write."""
        return asdict(self) | {"worst": [utterance.to_row() for utterance in self.worst]}


def score(utterances: Sequence[ScoredUtterance]) -> Report:
    """Return the report on scored utterances.

    Raises:
        ManifestError: there are none.
    """
    if not utterances:
        raise ManifestError("there are no utterances to score")
    words = total(utterance.words for utterance in utterances)
    characters = total(utterance.characters for utterance in utterances)
    return Report(
        utterances=len(utterances),
        seconds=sum(utterance.duration for utterance in utterances),
        words=words.length,
        hits=words.hits,
        substitutions=words.substitutions,
        deletions=words.deletions,
        insertions=words.insertions,
        wer=words.rate,
        wer_ci=rate_interval(utterances, lambda utterance: utterance.words),
        characters=characters.length,
        cer=characters.rate,
        cer_ci=rate_interval(utterances, lambda utterance: utterance.characters),
        resampled_by=resampling_unit(utterances),
        by_speaker=_by_speaker(utterances),
        by_duration=_by_duration(utterances),
        confusions=_confusions(utterances),
        worst=_worst(utterances),
    )


def duration_band(duration: float) -> str:
    """Return the name of the group that recordings of this length belong to."""
    i = bisect_right(DURATION_EDGES, duration)
    if i == len(DURATION_EDGES):
        return f"{DURATION_EDGES[-1]} s and more"
    return f"{(0, *DURATION_EDGES)[i]}-{DURATION_EDGES[i]} s"


def _by_speaker(utterances: Iterable[ScoredUtterance]) -> tuple[Group, ...]:
    groups = _grouped((u for u in utterances if u.speaker), lambda u: u.speaker)
    return tuple(sorted(groups, key=lambda group: (-group.wer, group.name)))


def _by_duration(utterances: Iterable[ScoredUtterance]) -> tuple[Group, ...]:
    known = (u for u in utterances if u.duration)
    return tuple(
        _grouped(sorted(known, key=lambda u: u.duration), lambda u: duration_band(u.duration))
    )


def _grouped(
    utterances: Iterable[ScoredUtterance], key: Callable[[ScoredUtterance], str]
) -> list[Group]:
    members: dict[str, list[ScoredUtterance]] = {}
    for utterance in utterances:
        members.setdefault(key(utterance), []).append(utterance)
    return [_group(name, group) for name, group in members.items()]


def _group(name: str, utterances: list[ScoredUtterance]) -> Group:
    words = total(utterance.words for utterance in utterances)
    return Group(
        name=name,
        utterances=len(utterances),
        seconds=sum(utterance.duration for utterance in utterances),
        words=words.length,
        wer=words.rate,
        wer_ci=rate_interval(utterances, lambda utterance: utterance.words),
        cer=total(utterance.characters for utterance in utterances).rate,
    )


def _confusions(utterances: Iterable[ScoredUtterance]) -> tuple[Confusion, ...]:
    counts = Counter(pair for utterance in utterances for pair in utterance.differences)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Confusion(*pair, count) for pair, count in ranked[:MOST_CONFUSIONS])


def _worst(utterances: Iterable[ScoredUtterance]) -> tuple[ScoredUtterance, ...]:
    wrong = (utterance for utterance in utterances if utterance.words.errors)
    ranked = sorted(wrong, key=lambda u: (-u.words.errors, -u.words.rate, u.id))
    return tuple(ranked[:WORST_UTTERANCES])
