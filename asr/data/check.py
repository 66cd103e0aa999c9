"""What a manifest holds, and which of its utterances cannot be trained on."""

import math
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.progress import track

from asr.audio import iter_audio
from asr.data.manifest import Utterance
from asr.errors import AudioError, AudioWarning
from asr.text import CharTokenizer, normalise, repeats

Kind = Literal["no text", "unknown characters", "too short", "unreadable", "duration"]

REMEDIES: dict[Kind, str] = {
    "no text": "right where nobody speaks, and trained on so; else add the text",
    "unknown characters": "spell them out in letters of the alphabet, or extend the alphabet",
    "too short": "the encoder gives fewer frames than the text needs: the text may belong to "
    "another recording; else choose less subsampling or leave them out",
    "unreadable": "fetch or convert the recordings again",
    "duration": "the manifest and the recording disagree: prepare the manifest again",
}
SAMPLE_RATE = 16_000  # of the recordings as they are measured, Hz
TOLERANCE = 0.1  # seconds; codecs pad a little
MAX_SECONDS = 35.0  # of what is trained on, unless told otherwise: memory grows with the longest


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an utterance cannot be used, or may not be what it should be.

    Attributes:
        kind: what is wrong, a key of ``REMEDIES``.
        id: of the utterance.
        detail: the facts, for people.
    """

    kind: Kind
    id: str
    detail: str


@dataclass(frozen=True, slots=True)
class ManifestCheck:
    """What a manifest holds.

    Attributes:
        utterances: their number.
        seconds: their length together.
        speakers: number of named speakers.
        durations: of each utterance, seconds, sorted.
        characters: how often each character occurs in the normalised texts.
        unknown: those of them that are not in the alphabet.
        problems: all that is wrong; an utterance may come more than once.
    """

    utterances: int
    seconds: float
    speakers: int
    durations: tuple[float, ...]
    characters: Counter[str]
    unknown: Counter[str]
    problems: tuple[Problem, ...]


def check_utterances(
    utterances: Sequence[Utterance],
    tokenizer: CharTokenizer,
    output_frames: Callable[[float], int],
    *,
    read_audio: bool = False,
) -> ManifestCheck:
    """Count what utterances hold and find those that cannot be used.

    Args:
        utterances: of a manifest.
        tokenizer: knows the alphabet; texts are normalised before they are looked at.
        output_frames: gives the encoder's frames for a duration in seconds. CTC needs
            as many as the text has characters, and one more between equal neighbours.
        read_audio: decode every recording, which finds missing and damaged ones and wrong
            durations; a progress bar shows on stderr.
    """
    characters: Counter[str] = Counter()
    problems: list[Problem] = []
    for utterance in utterances:
        text = normalise(utterance.text)
        characters.update(text)
        problems += _text_problems(utterance, text, tokenizer, output_frames)
    if read_audio:
        problems += _audio_problems(utterances)
    durations = sorted(utterance.duration for utterance in utterances)
    return ManifestCheck(
        utterances=len(utterances),
        seconds=math.fsum(durations),
        speakers=len({utterance.speaker for utterance in utterances} - {""}),
        durations=tuple(durations),
        characters=characters,
        unknown=Counter({c: n for c, n in characters.items() if c not in tokenizer.alphabet}),
        problems=tuple(problems),
    )


def _text_problems(
    utterance: Utterance,
    text: str,
    tokenizer: CharTokenizer,
    output_frames: Callable[[float], int],
) -> Iterator[Problem]:
    if not text:
        yield Problem("no text", utterance.id, f"nothing to say in {utterance.text!r}")
        return
    unknown = set(text).difference(tokenizer.alphabet)
    if unknown:
        yield Problem("unknown characters", utterance.id, " ".join(sorted(unknown)))
        return
    frames = output_frames(utterance.duration)
    if frames < 2 * len(text):  # else there is room whatever the text
        needed = len(text) + repeats(tokenizer.encode(text))
        if frames < needed:
            detail = f"{frames} frames from {utterance.duration:.2f} s, {needed} needed"
            yield Problem("too short", utterance.id, detail)


def _audio_problems(utterances: Sequence[Utterance]) -> Iterator[Problem]:
    """Decode everything; decoders release the interpreter, so threads keep all cores busy."""
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        # A recording cut short shows in its duration.
        warnings.simplefilter("ignore", AudioWarning)
        problems = track(
            pool.map(_audio_problem, utterances),
            description="reading audio",
            total=len(utterances),
            console=Console(stderr=True),
        )
        yield from filter(None, problems)


def _audio_problem(utterance: Utterance) -> Problem | None:
    try:
        samples = sum(len(block) for block in iter_audio(utterance.audio, SAMPLE_RATE))
    except AudioError as error:
        return Problem("unreadable", utterance.id, str(error))
    seconds = samples / SAMPLE_RATE
    if abs(seconds - utterance.duration) > TOLERANCE:
        detail = f"{utterance.duration:.2f} s in the manifest, {seconds:.2f} s in {utterance.audio}"
        return Problem("duration", utterance.id, detail)
    return None


def describe(check: ManifestCheck, limit: int = 20) -> str:
    """Return a report for people; each kind of problem names at most ``limit`` utterances."""
    parts = [
        f"utterances  {check.utterances}",
        f"hours       {check.seconds / 3600:.2f}",
        f"speakers    {check.speakers or 'not named'}",
        "durations",
        *_histogram(check.durations),
        "characters  " + "  ".join(f"{_show(c)} {n}" for c, n in sorted(check.characters.items())),
    ]
    for character, count in check.unknown.most_common():
        name = unicodedata.name(character, "unnamed")
        parts.append(f"unknown     {_show(character)} U+{ord(character):04X} {name}, {count} times")
    for kind, remedy in REMEDIES.items():
        found = [problem for problem in check.problems if problem.kind == kind]
        if found:
            parts.append(f"{kind}: {len(found)} of {check.utterances} utterances; {remedy}")
            parts += [f"  {problem.id}: {problem.detail}" for problem in found[:limit]]
            if len(found) > limit:
                parts.append(f"  and {len(found) - limit} more")
    if longer := sum(seconds > MAX_SECONDS for seconds in check.durations):
        parts.append(
            f"long: {longer} of {check.utterances} utterances are over {MAX_SECONDS:g} s, and a "
            "training leaves them out: cut them at pauses, or raise its --data.max_seconds"
        )
    return "\n".join(parts)


def _show(character: str) -> str:
    return "space" if character == " " else character


def _histogram(durations: Sequence[float], width: int = 40) -> Iterator[str]:
    """Yield one bar of text for each step of 1, 2, 5, 10 … seconds, twenty at most."""
    longest = durations[-1]
    steps = (base * 10**power for power in range(9) for base in (1, 2, 5))
    step = next((step for step in steps if longest < 20 * step), math.ceil(longest / 20) + 1)
    counts = Counter(int(duration // step) for duration in durations)
    scale = width / max(counts.values())
    for bin in range(min(counts), max(counts) + 1):
        bar = "#" * math.ceil(counts[bin] * scale)
        yield f"  {bin * step:>5} to {(bin + 1) * step:>5} s  {bar:<{width}}  {counts[bin]}"
