"""One picture of a training: loss, error rates, learning rate, gradient, speed."""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogFormatter, MaxNLocator, PercentFormatter

from asr.plots.style import BLUE, GREEN, GREY, ORANGE, RED
from asr.plots.training_log import Series, TrainingLog

SMOOTHED_SHARE = 0.02  # of the measurements, averaged to one point of a smooth line


def draw_training_curves(log: TrainingLog, title: str) -> Figure:
    """Draw the figures of a run over its steps, 1600 x 900 pixels.

    Args:
        log: what the run logged; figures that it lacks are said to be missing.
        title: name of the run.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12, wspace=0.02)
    figure = Figure(figsize=(16, 9), layout=layout)
    grid = figure.add_gridspec(2, 6, height_ratios=[1.35, 1])
    first = figure.add_subplot(grid[0, :3])
    spans = (grid[0, 3:], grid[1, :2], grid[1, 2:4], grid[1, 4:])
    panels = [first, *(figure.add_subplot(span, sharex=first) for span in spans)]
    drawers = (_loss, _error_rates, _learning_rate, _gradient_norm, _speed)
    for axes, draw in zip(panels, drawers, strict=True):
        draw(axes, log)
        _finish(axes, log)
    figure.suptitle(_summary(title, log), x=0.01, ha="left", fontsize=16)
    return figure


def _summary(title: str, log: TrainingLog) -> str:
    parts = [title, f"{log.steps:,} steps", f"{log.epochs} epoch{'s' * (log.epochs > 1)}"]
    steps, rates = log["val/wer"]
    if len(rates):
        best = rates.argmin()
        parts.append(f"best WER {rates[best]:.2%} at step {steps[best]:,}")
    if log.resumed:
        parts.append(f"resumed at {', '.join(f'{step:,}' for step in log.resumed[-3:])} (dotted)")
    return "  ·  ".join(parts)


def _loss(axes: Axes, log: TrainingLog) -> None:
    axes.set_title("CTC loss per character")
    _measured(axes, log["train/loss"], BLUE, "training")
    _validated(axes, log["val/loss"], RED, "validation")
    # A few steps at the start may be far off; they should not flatten the rest.
    values = np.concatenate([log["train/loss"].values, log["val/loss"].values])
    if len(values):
        axes.set_ylim(0, 1.1 * np.quantile(values, 0.99))


def _error_rates(axes: Axes, log: TrainingLog) -> None:
    axes.set_title("Validation errors")
    for name, colour, marker in (("wer", BLUE, "o"), ("cer", ORANGE, "s")):
        series = log[f"val/{name}"]
        if len(series.values):
            best = f"{name.upper()}, best {series.values.min():.1%}"
            _validated(axes, series, colour, best, marker)
            axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _learning_rate(axes: Axes, log: TrainingLog) -> None:
    axes.set_title("Learning rate")
    axes.plot(*log["train/lr"], color=GREEN)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)


def _gradient_norm(axes: Axes, log: TrainingLog) -> None:
    axes.set_title("Gradient norm")
    _measured(axes, log["train/gradient_norm"], RED)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))


def _speed(axes: Axes, log: TrainingLog) -> None:
    axes.set_title("Speed, seconds of audio a second")
    _measured(axes, log["train/audio_seconds_per_second"], ORANGE)
    axes.set_ylim(bottom=0)


def _measured(axes: Axes, series: Series, colour: str, label: str = "") -> None:
    """Plot a noisy figure faintly, and its moving average."""
    axes.plot(*series, color=colour, alpha=0.25, lw=1)
    axes.plot(series.steps, _smooth(series.values), color=colour, label=label)


def _validated(axes: Axes, series: Series, colour: str, label: str, marker: str = "o") -> None:
    if len(series.steps):
        style = {"marker": marker, "ms": 6, "label": label, "clip_on": False}
        axes.plot(*series, color=colour, **style)  # type: ignore[arg-type]


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the centred moving average, over fewer values at both ends."""
    if not len(values):
        return values
    window = np.ones(1 + 2 * int(SMOOTHED_SHARE * len(values) / 2 + 0.5))
    sums, counts = (np.convolve(each, window) for each in (values, np.ones_like(values)))
    half = len(window) // 2
    averages: npt.NDArray[np.float64] = (sums / counts)[half : half + len(values)]
    return averages


def _finish(axes: Axes, log: TrainingLog) -> None:
    """Label the steps, mark where the run was resumed, and say so if there is nothing to see."""
    axes.set_xlim(0, max(log.steps, 2))
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    measurements = [len(np.asarray(line.get_xdata())) for line in axes.lines]
    if not any(measurements):
        axes.annotate(
            "not logged yet",
            (0.5, 0.5),
            xycoords="axes fraction",
            ha="center",
            va="center",
            color=GREY,
        )
        axes.set_yticks([])
        return
    if measurements[0] == 1:  # no line to see
        axes.lines[0].set_marker("o")
    if axes.get_legend_handles_labels()[0]:
        # Beside the title, where no curve comes.
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.1)
    for step in log.resumed:
        axes.axvline(step, color=GREY, lw=1, ls=(0, (2, 3)), zorder=0.5)
