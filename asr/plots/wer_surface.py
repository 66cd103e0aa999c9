"""Word error rate over language model weight and word score."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from matplotlib.tri import Triangulation

from asr.decoding.config import DecoderConfig
from asr.decoding.tuning import Trial
from asr.plots.style import RED


def draw_wer_surface(trials: Sequence[Trial], chosen: DecoderConfig, title: str) -> Figure:
    """Draw the trials of n-grams alone with the first one's beam, and the chosen setting.

    1200 x 900 pixels.

    Each weight and word score shows the rate of the priors and unknown words that serve it best.
    """
    width = trials[0].config.beam_width
    lowest: dict[tuple[float, float], float] = {}
    for trial in trials:
        config = trial.config
        if config.beam_width == width and not trial.rescored:
            point = config.lm_weight, config.word_score
            lowest[point] = min(trial.wer, lowest.get(point, trial.wer))
    weights, scores = zip(*lowest, strict=True)
    rates = list(lowest.values())
    figure = Figure(figsize=(12, 9), layout="constrained")
    axes = figure.add_subplot()
    # Far off, differences matter little.
    levels = np.linspace(min(rates), max(1.3 * min(rates), min(rates) + 0.01), 25)
    # Neighbours by steps of the grid: 0.2 of weight are as far as 1 of score.
    triangles = Triangulation([5 * weight for weight in weights], scores).triangles
    surface = axes.tricontourf(
        Triangulation(weights, scores, triangles),
        rates,
        levels=levels,
        cmap="cividis_r",
        extend="max",
    )
    axes.scatter(weights, scores, c="white", edgecolors="black", s=22, linewidths=0.7)
    for weight, score, rate in zip(weights, scores, rates, strict=True):
        axes.annotate(
            f"{rate:.1%}",
            (weight, score),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7},
        )
    axes.scatter(
        chosen.lm_weight,
        chosen.word_score,
        marker="*",
        s=420,
        c=RED,
        edgecolors="black",
        label=f"chosen for width {chosen.beam_width}: {chosen.lm_weight:g}, {chosen.word_score:g}",
    )
    axes.use_sticky_edges = False
    axes.margins(0.06)
    axes.set_xlabel("weight of the language model")
    axes.set_ylabel("score of a word")
    axes.set_title(f"{title}, beam of {width}")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1))  # above, where no figure stands
    bar = figure.colorbar(surface, ax=axes, label="word error rate")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1))
    return figure
