"""One picture from sound to words: waveform, log-mel, posteriors, words, on one time axis."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from asr.decoding.alignment import Word
from asr.plots.inspection import Array, Inspection
from asr.plots.style import BLUE, GREY, ORANGE

WIDTH = 16.0  # inches, for up to this many seconds; longer parts get wider pictures
WIDE_SECONDS = 15.0
HEIGHT = 12.0
LEFT, RIGHT = 0.9, 0.3  # inches beside the rows
DYNAMIC_RANGE = 80.0  # decibels shown below the loudest
WORTH_SHOWING = 0.1  # posterior that a character must reach somewhere
HERTZ = (500, 1000, 2000, 4000, 8000, 16_000)
DOUBTFUL = 0.5  # confidence below which a word is drawn in another colour
LANES = 4  # of words, one above the other, where they are dense
LANE_HEIGHT = 38.0  # pixels
LABEL_GAP = 6.0  # pixels around a word


def draw_inspection(inspection: Inspection, title: str) -> Figure:
    """Draw the four rows, 1600 pixels wide or more if the part is long.

    Args:
        inspection: what to show.
        title: what stands above.
    """
    excerpt = inspection.excerpt
    seconds = excerpt.end - excerpt.start
    width = WIDTH * max(1.0, seconds / WIDE_SECONDS)
    figure = Figure(figsize=(width, HEIGHT))
    FigureCanvasAgg(figure)  # measures texts
    rows = figure.subplots(4, sharex=True, height_ratios=[1.2, 1.9, 4.0, 2.2])
    figure.subplots_adjust(LEFT / width, 0.05, 1 - RIGHT / width, 0.93, hspace=0.17)
    figure.suptitle(title, x=0.2 / width, y=0.985, ha="left", va="top", fontsize=16)
    rows[0].set_xlim(excerpt.start, excerpt.end)
    for axes, draw in zip(rows, (_waveform, _log_mel, _posteriors, _words), strict=True):
        axes.grid(False)
        draw(axes, inspection)
    for axes, colour in zip(rows, (GREY, "white", GREY, GREY), strict=True):
        edges = [edge for word in inspection.words for edge in (word.start, word.end)]
        whole_height = axes.get_xaxis_transform()
        dotted = {"ls": (0, (2, 3)), "lw": 0.6, "alpha": 0.4, "zorder": 1.5}
        axes.vlines(edges, 0, 1, colour, transform=whole_height, **dotted)
    rows[-1].set_xlabel("seconds")
    return figure


def _waveform(axes: Axes, inspection: Inspection) -> None:
    excerpt = inspection.excerpt
    values, step = _envelope(excerpt.waveform, most=round(2 * axes.bbox.width))
    times = excerpt.start + step * np.arange(len(values)) / excerpt.sample_rate
    axes.set_title("Waveform")
    axes.plot(times, values, color=BLUE, lw=0.5)
    peak = max(1e-3, 1.05 * float(np.abs(excerpt.waveform).max()))
    axes.set_ylim(-peak, peak)


def _envelope(waveform: Array, most: int) -> tuple[Array, float]:
    """Return a waveform as lowest and highest of short stretches, if it is longer than ``most``.

    Returns:
        values and their distance in samples.
    """
    size = 2 * len(waveform) // most
    if size < 3:  # nothing gained
        return waveform, 1.0
    stretches = waveform[: len(waveform) // size * size].reshape(-1, size)
    return np.stack([stretches.min(axis=1), stretches.max(axis=1)], axis=1).ravel(), size / 2


def _log_mel(axes: Axes, inspection: Inspection) -> None:
    axes.set_title("Log-mel, hertz")
    decibels = inspection.log_mel.T * (10 / np.log(10))
    frames = decibels.shape[1]
    step = inspection.mel_frame_seconds
    low, high = (_mel(hertz) for hertz in inspection.mel_limits)
    start = inspection.excerpt.start - step / 2  # frames are centred
    axes.imshow(
        decibels,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(start, start + frames * step, low, high),
        cmap="magma",
        vmin=decibels.max() - DYNAMIC_RANGE,
        vmax=decibels.max(),
    )
    shown = [hertz for hertz in HERTZ if low <= _mel(hertz) <= high]
    axes.set_yticks([_mel(hertz) for hertz in shown], [f"{hertz}" for hertz in shown])


def _mel(hertz: float) -> float:
    """Return HTK's mel of a frequency."""
    return 2595 * float(np.log10(1 + hertz / 700))


def _posteriors(axes: Axes, inspection: Inspection) -> None:
    axes.set_title("CTC posteriors")
    posteriors = inspection.posteriors
    spelt = ["space" if symbol == " " else symbol for symbol in inspection.symbols]
    names = ["blank", *spelt]
    shown = [0, *(np.flatnonzero(posteriors[:, 1:].max(axis=0) >= WORTH_SHOWING) + 1)]
    start = inspection.excerpt.start
    axes.imshow(
        posteriors[:, shown].T,
        aspect="auto",
        interpolation="nearest",
        extent=(start, start + len(posteriors) * inspection.frame_seconds, len(shown), 0),
        cmap="Blues",
        vmin=0,
        vmax=1,
    )
    row = axes.bbox.height / len(shown)
    axes.set_yticks(
        np.arange(len(shown)) + 0.5,
        [names[token] for token in shown],
        fontsize=min(11.0, 0.8 * row * 72 / axes.figure.dpi),
    )
    axes.tick_params(axis="y", length=0)
    axes.hlines(np.arange(1, len(shown)), *axes.get_xlim(), color="#f0f0f0", lw=0.5)


def _words(axes: Axes, inspection: Inspection) -> None:
    axes.set_title(f"Words and their confidence, orange below {DOUBTFUL:.0%}")
    words = inspection.words
    axes.bar(
        [word.start for word in words],
        [word.confidence for word in words],
        [word.end - word.start for word in words],
        align="edge",
        color=[ORANGE if word.confidence < DOUBTFUL else BLUE for word in words],
    )
    _label_bars(axes, words)
    axes.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    axes.spines["left"].set_bounds(0, 1)


def _label_bars(axes: Axes, words: Sequence[Word]) -> None:
    """Write each word above its bar, in as many lanes as it takes to keep them apart."""
    labels = [
        axes.text(
            (word.start + word.end) / 2,
            1.0,
            f"{word.word}\n{word.confidence:.0%}",
            ha="center",
            fontsize=11,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
        for word in words
    ]
    extents = [_inside(label, axes) for label in labels]
    lanes = _lanes(extents)
    room = axes.bbox.height
    top = room / (room - LANE_HEIGHT * (1 + max(lanes, default=0)))  # bars get what labels leave
    axes.set_ylim(0, top)
    for label, lane in zip(labels, lanes, strict=True):
        label.set_y(1 + (LABEL_GAP + lane * LANE_HEIGHT) * top / room)
        label.set_visible(lane >= 0)
    raised = [
        (word, label) for word, label, lane in zip(words, labels, lanes, strict=True) if lane > 0
    ]
    axes.vlines(
        [(word.start + word.end) / 2 for word, _ in raised],
        [word.confidence for word, _ in raised],
        [label.get_position()[1] for _, label in raised],
        GREY,
        lw=0.8,
    )


def _inside(label: Text, axes: Axes) -> npt.NDArray[np.float64]:
    """Push a label into the picture if it stands out; return its left and right edge, pixels."""
    edges: npt.NDArray[np.float64] = label.get_window_extent().intervalx
    width = axes.figure.bbox.width
    push = max(0.0, LABEL_GAP - edges[0]) - max(0.0, edges[1] + LABEL_GAP - width)
    seconds_per_pixel = np.ptp(axes.get_xlim()) / axes.bbox.width
    label.set_x(label.get_position()[0] + push * seconds_per_pixel)
    return edges + push


def _lanes(extents: Iterable[npt.NDArray[np.float64]]) -> list[int]:
    """Return the lowest lane that is free for each label, -1 if there is none.

    Args:
        extents: left and right edge of each label, pixels, in order of their middles.
    """
    free_from = [-math.inf] * LANES
    lanes = []
    for left, right in extents:
        lane = next((i for i, pixel in enumerate(free_from) if pixel <= left), -1)
        if lane >= 0:
            free_from[lane] = right + LABEL_GAP
        lanes.append(lane)
    return lanes
