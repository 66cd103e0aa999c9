"""How far confidences can be believed: the reliability diagram."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from asr.decoding.calibration import Bin
from asr.plots.style import BLUE, GREY, SKY


def draw_reliability(panels: Sequence[tuple[str, Sequence[Bin], float]]) -> Figure:
    """Draw one panel per calibration, 700 pixels each.

    Args:
        panels: title, bins and expected calibration error of each.
    """
    figure = Figure(figsize=(7 * len(panels), 7), layout="constrained")
    for axes, (title, bins, error) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        words = sum(b.words for b in bins)
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        axes.bar(
            [b.confidence for b in bins],
            [b.words / words for b in bins],
            width=0.05,
            color=SKY,
            alpha=0.5,
            label="share of the words",
        )
        axes.plot(
            [b.confidence for b in bins],
            [b.accuracy for b in bins],
            marker="o",
            color=BLUE,
            label="words that are right",
        )
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="confidence")
        axes.set_title(f"{title}: expected calibration error {error:.1%}")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend(loc="upper left")
    return figure
