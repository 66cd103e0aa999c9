"""Cuts recordings of any length into pieces that the model can take, where nobody speaks.

A recording arrives in blocks and leaves in pieces, so that hours of it need no more memory than
a minute. A piece ends in the longest pause that it can. Somebody who speaks without any pause is
cut at the quietest place, and both pieces hear a little beyond it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_SECONDS = 30.0  # of a piece
MIN_SECONDS = 3.0  # of a piece, unless the recording ends or a long pause follows
OVERLAP_SECONDS = 2.0  # heard beyond a cut through speech, on both sides
SEARCH_SECONDS = 10.0  # the quietest place is looked for in this stretch before the limit
LONG_PAUSE_SECONDS = 0.7  # ends a piece although a longer pause may follow
PAUSE_SECONDS = 0.2  # shorter dips of the loudness are stops inside words
MARGIN_SECONDS = 0.25  # of silence kept beside speech, since words begin and end softly
STEP_SECONDS = 0.02
SMOOTH_STEPS = 5  # the loudness of low-pitched noise jumps from step to step

# What counts as silence: less than twice the noise, and far below speech. In a recording with so
# much noise that nothing is, each cut has an overlap and nothing is left out.
ABOVE_NOISE = 2.0
NO_SOUND = 1e-5  # -100 dB: digital silence, which says nothing about the noise
NOISE_PERCENTILE, SPEECH_PERCENTILE = 10, 95
BELOW_SPEECH = 0.1  # -20 dB at most
FAR_BELOW_SPEECH = 0.02  # -34 dB is silence, however quiet the noise
SPEECH_DECAY = 0.9  # a window: speech heard minutes ago still tells what silence is

Waveform = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a recording to be transcribed at once.

    Attributes:
        waveform: (time,) float32.
        start: sample of the recording at which ``waveform`` begins.
        begin: the first sample that is this piece's own; those before it are the end of the
            piece before, heard for their context.
        end: the sample behind its last own one.
    """

    waveform: Waveform
    start: int
    begin: int
    end: int

    @property
    def overlaps_next(self) -> bool:
        """Whether it goes on into the next piece."""
        return self.end < self.start + len(self.waveform)


class Segmenter:
    """Cuts one recording; how it is chopped into blocks changes nothing.

    A recording of at most ``MAX_SECONDS`` stays whole. In a longer one, pauses are left out but
    for ``MARGIN_SECONDS`` at each end.

    Args:
        sample_rate: Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._step = max(1, round(STEP_SECONDS * sample_rate))
        self._kept = np.zeros(0, np.float32)
        self._start = 0  # where in the recording it begins
        self._begin = 0  # of the next piece's own part
        self._speech = 0.0  # level

    def add(self, block: Waveform) -> list[Piece]:
        """Take the next (time,) samples; return the pieces that are complete."""
        self._kept = np.concatenate([self._kept, block])
        pieces = []
        # Beyond a piece it sees enough to leave no crumb behind.
        while len(self._kept) > self._samples(MAX_SECONDS + MIN_SECONDS):
            pieces += self._cut(self._kept[: self._samples(MAX_SECONDS + MIN_SECONDS)])
        return pieces

    def finish(self) -> list[Piece]:
        """Return the last pieces."""
        if self._start == 0 and len(self._kept) <= self._samples(MAX_SECONDS):
            return [self._take(len(self._kept))] if len(self._kept) else []
        pieces = []
        while len(self._kept):
            pieces += self._cut(self._kept, is_last=True)
        return pieces

    def _samples(self, seconds: float) -> int:
        return int(seconds * self.sample_rate)

    def _cut(self, window: Waveform, *, is_last: bool = False) -> list[Piece]:
        """Remove a piece, or silence, from the front of what is kept."""
        margin, most = self._samples(MARGIN_SECONDS), self._samples(MAX_SECONDS)
        own = self._begin - self._start
        pauses = [(max(a, own), b) for a, b in self._pauses(window) if b > own]
        if pauses and pauses[0][0] == 0:
            end = pauses[0][1]
            if is_last and end == len(window):
                self._drop(end)
                return []
            if end > margin:
                self._drop(end - margin)
                return []
        if is_last and len(window) <= most:
            end = len(window)
            if pauses and pauses[-1][1] == end:
                end = min(end, pauses[-1][0] + margin)
            piece = self._take(end)
            self._drop(len(window) - end)
            return [piece]
        least = self._samples(MIN_SECONDS)
        latest = min(most, len(window) - least) if is_last else most
        pauses = [(a, b) for a, b in pauses if b > least and a + margin <= latest]
        if not pauses:
            return [self._take_through_speech(window, latest)]
        enough = self._samples(LONG_PAUSE_SECONDS)
        start, end = max(pauses, key=lambda pause: min(pause[1] - pause[0], enough))
        if end - start <= 2 * margin:
            return [self._take((start + end) // 2)]
        piece = self._take(start + margin)
        self._drop(end - start - 2 * margin)
        return [piece]

    def _take(self, end: int) -> Piece:
        """Remove the first ``end`` samples as a piece."""
        piece = Piece(self._kept[:end].copy(), self._start, self._begin, self._start + end)
        self._drop(end)
        return piece

    def _take_through_speech(self, window: Waveform, latest: int) -> Piece:
        overlap, search = self._samples(OVERLAP_SECONDS), self._samples(SEARCH_SECONDS)
        left = latest - overlap - search
        cut = left + _quietest(window[left : latest - overlap], self.sample_rate)
        waveform = window[: cut + overlap].copy()
        piece = Piece(waveform, self._start, self._begin, self._start + cut)
        self._drop(cut - overlap)
        self._begin = self._start + overlap
        return piece

    def _drop(self, samples: int) -> None:
        self._kept = self._kept[samples:]
        self._start += samples
        self._begin = self._start

    def _pauses(self, window: Waveform) -> list[tuple[int, int]]:
        """Return where it is silent for ``PAUSE_SECONDS`` or more, as (start, end) samples."""
        energies = _energies(window, self._step)
        if len(energies) < SMOOTH_STEPS:
            return [(0, len(window))]  # too short for a word
        means = np.convolve(energies, np.full(SMOOTH_STEPS, 1 / SMOOTH_STEPS), mode="valid")
        levels = np.sqrt(np.pad(means, SMOOTH_STEPS // 2, mode="edge") / self._step)
        sounding = levels[levels > NO_SOUND]
        noise, speech = 0.0, 0.0
        if len(sounding):
            noise, speech = np.percentile(sounding, [NOISE_PERCENTILE, SPEECH_PERCENTILE])
        self._speech = max(float(speech), SPEECH_DECAY * self._speech)
        threshold = np.clip(
            ABOVE_NOISE * noise, FAR_BELOW_SPEECH * self._speech, BELOW_SPEECH * self._speech
        )
        quiet = np.concatenate([[False], levels <= threshold, [False]])
        edges = np.flatnonzero(quiet[1:] != quiet[:-1]).reshape(-1, 2) * self._step
        # What is left of a step at the end goes with the last one.
        edges[edges == len(levels) * self._step] = len(window)
        shortest = self._samples(PAUSE_SECONDS)
        return [(int(a), int(b)) for a, b in edges if b - a >= shortest]


def quietest_cut(waveform: Waveform, sample_rate: int) -> int:
    """Return the sample to cut at in somebody who spoke for more than ``MAX_SECONDS``.

    It lies in the middle of the quietest stretch of ``PAUSE_SECONDS`` found within
    ``SEARCH_SECONDS`` before that limit.

    Args:
        waveform: (time,) float32.
        sample_rate: Hz.
    """
    limit, search = int(MAX_SECONDS * sample_rate), int(SEARCH_SECONDS * sample_rate)
    return limit - search + _quietest(waveform[limit - search : limit], sample_rate)


def _quietest(waveform: Waveform, sample_rate: int) -> int:
    """Return the sample in the middle of the quietest stretch."""
    step = max(1, int(STEP_SECONDS / 2 * sample_rate))
    width = round(PAUSE_SECONDS * 2 / STEP_SECONDS)
    energy = np.convolve(_energies(waveform, step), np.ones(width), mode="valid")
    return int(step * (energy.argmin() + width / 2))


def _energies(waveform: Waveform, step: int) -> npt.NDArray[np.float64]:
    """Return the sum of squares of each whole step."""
    steps = waveform[: len(waveform) // step * step].reshape(-1, step)
    return np.square(steps, dtype=np.float64).sum(axis=1)
