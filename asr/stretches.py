"""Finds where somebody speaks and where they pause, while the audio still arrives."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from asr.segmentation import MAX_SECONDS, quietest_cut

STEP_SECONDS = 0.02
PAUSE_SECONDS = 0.6  # as long a silence ends a stretch
LEAD_SECONDS = 0.3  # of silence kept before and after speech, since words begin and end softly
ABOVE_NOISE = 3.0  # speech is louder than the noise by this factor of the amplitude
SOFTEST = 1e-3  # -60 dB: speech is never below
FIRST_FLOOR = 1e-2  # -40 dB: noise is hardly louder, and silence soon tells better
FLOOR_GROWTH = 1.005  # a step: how fast the estimate of the noise follows a rise, 2 dB a second


@dataclass(frozen=True, slots=True)
class Stretch:
    """Speech between two pauses.

    Attributes:
        waveform: (time,) float32.
        start: seconds from the beginning of the stream.
    """

    waveform: np.ndarray
    start: float


class Stretches:
    """Cuts a stream into stretches of speech by its loudness.

    A step is speech where it is clearly louder than the noise, whose level is the least heard,
    slowly forgotten. Whoever speaks on and on is cut at the quietest place, without the overlap
    that recordings get.

    Args:
        sample_rate: Hz.

    Attributes:
        step: samples that are judged at once; fewer wait for more.
        length: samples of :meth:`current`.
        speaking: whether a stretch has begun.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.step = round(STEP_SECONDS * sample_rate)
        self._rest = np.zeros(0, np.float32)  # less than a step
        self._kept: deque[np.ndarray] = deque()
        self.length = 0  # samples kept
        self._start = 0  # where they begin in the stream
        self._floor = FIRST_FLOOR
        self._silent = 0  # samples since the last speech
        self.speaking = False

    def feed(self, samples: np.ndarray) -> list[Stretch]:
        """Take (time,) float32 samples; return the stretches that ended in them."""
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) // self.step * self.step
        self._rest = samples[whole:]
        ended = [self._take(step) for step in samples[:whole].reshape(-1, self.step)]
        return [stretch for stretch in ended if stretch]

    def current(self) -> Stretch:
        """Return what has been said since the last pause."""
        waveform = np.concatenate([*self._kept, np.zeros(0, np.float32)])
        return Stretch(waveform, self._start / self.sample_rate)

    def _take(self, step: np.ndarray) -> Stretch | None:
        self._kept.append(step)
        self.length += len(step)
        if self._is_speech(step):
            self.speaking, self._silent = True, 0
        else:
            self._silent += len(step)
        lead = round(LEAD_SECONDS * self.sample_rate)
        if not self.speaking:
            while self.length - len(self._kept[0]) >= lead:
                self._drop()
        elif self._silent >= PAUSE_SECONDS * self.sample_rate:
            return self._cut(self.length - self._silent + lead, speaking=False)
        elif self.length > MAX_SECONDS * self.sample_rate:
            end = quietest_cut(self.current().waveform, self.sample_rate)
            # What is kept may be silence alone.
            return self._cut(end, speaking=self._silent < self.length - end)
        return None

    def _is_speech(self, step: np.ndarray) -> bool:
        level = float(np.sqrt(np.square(step).mean()))
        self._floor = min(level, self._floor * FLOOR_GROWTH)
        self._floor = max(self._floor, SOFTEST / ABOVE_NOISE)
        return level > ABOVE_NOISE * self._floor

    def _drop(self) -> None:
        dropped = len(self._kept.popleft())
        self._start += dropped
        self.length -= dropped

    def _cut(self, end: int, *, speaking: bool) -> Stretch:
        """End the stretch at that sample; what comes after it is kept."""
        whole = self.current()
        self._kept = deque([whole.waveform[end:]])
        self.length -= end
        self._start += end
        self.speaking = speaking
        return Stretch(whole.waveform[:end], whole.start)
