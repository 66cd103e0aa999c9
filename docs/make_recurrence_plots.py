"""Run the code of ``docs/recurrence.md`` and draw its figures from the numbers it leaves behind.

Usage, with the package and its ``test`` extra installed: python docs/make_recurrence_plots.py
"""

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

PAGE = Path(__file__).with_name("recurrence.md")
IMAGES = PAGE.with_name("images")
FLOOR = 1e-22  # the smallest gradient shown

# The colours of Okabe and Ito, which colour-blind readers tell apart.
BLUE, GREEN, ORANGE, RED, GREY = "#0072B2", "#009E73", "#E69F00", "#D55E00", "#777777"
CELLS = {
    "lstm": ("LSTM", BLUE),
    "gru": ("GRU", GREEN),
    "rnn_relu": ("plain RNN, ReLU", ORANGE),
    "rnn_tanh": ("plain RNN, tanh", RED),
}
STYLE = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "savefig.dpi": 110,
}


def run_page(page: Path = PAGE) -> dict[str, Any]:
    """Run every python block of a Markdown page in order; return the names they define."""
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": page.stem}
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        # Blank lines in front make a traceback point at the line of the page.
        blank = "\n" * text.count("\n", 0, block.start(1))
        exec(compile(blank + block[1], str(page), "exec"), namespace)
    return namespace


def draw_figures(page: dict[str, Any], folder: Path) -> None:
    """Draw all figures of the page into ``folder``, as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for draw in (gradient_reach, gradient_dials, cliff, clipping):
            draw(page).savefig(folder / f"{draw.__name__}.png")


def gradient_reach(page: dict[str, Any]) -> Figure:
    """Gradient norm against distance in time, for the four cells."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for cell, (label, colour) in CELLS.items():
        gradient = page["reach_of"][cell]
        _labelled(axes, gradient, label, colour)
    _gradient_axes(axes, ceiling=10.0)
    axes.set_title("Default encoder at its start: 3 bidirectional layers of 320 units", loc="left")
    axes.set_ylabel("gradient at the input\n(last frame = 1)")
    seconds = axes.secondary_xaxis("top", functions=(lambda k: k * 0.04, lambda s: s / 0.04))
    seconds.set_xlabel("seconds")
    axes.title.set_y(1.18)
    return figure


def gradient_dials(page: dict[str, Any]) -> Figure:
    """Plain RNN under scaled weights; LSTM under different forget biases."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for scale, colour in zip(page["scales"], (GREY, BLUE, GREEN, ORANGE, RED), strict=True):
        gradient = page["reach_of_scale"]["rnn_tanh", scale]
        _labelled(left, gradient, f"s = {scale:g}", colour)
        _, predicted = page["rates"]["rnn_tanh", scale]
        steps = torch.arange(len(gradient))
        left.plot(gradient[20] * predicted ** (steps - 20.0), color=colour, lw=1, ls=(0, (2, 2)))
    left.plot([], [], color="black", lw=1, ls=(0, (2, 2)), label="slope by the formula")
    left.set_title("Plain RNN (tanh), recurrent weights × s", loc="left")
    left.set_ylabel("gradient at the input\n(last frame = 1)")
    left.legend(loc="upper left")

    for bias, colour in zip(page["forget_biases"], (GREY, BLUE, GREEN, ORANGE), strict=True):
        _labelled(right, page["reach_of_bias"][bias], f"bias {bias:g}", colour)
    right.set_title("LSTM, bias of the forget gate", loc="left")
    for axes in (left, right):
        _gradient_axes(axes, ceiling=1e16)
    return figure


def cliff(page: dict[str, Any]) -> Figure:
    """Loss of one recurrent unit over its two parameters, and two descents."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    whole, near = figure.subplots(1, 2)
    for axes, w_range, b_range in (
        (whole, (0.6, 3.0), (-1.0, 4.2)),
        (near, (0.8, 2.2), (-0.75, 0.35)),
    ):
        w = torch.linspace(*w_range, 700, dtype=torch.float64)
        b = torch.linspace(*b_range, 700, dtype=torch.float64)
        loss = page["cliff"](*torch.meshgrid(w, b, indexing="xy"))
        surface = axes.contourf(w, b, loss, levels=torch.arange(0, 2.5, 0.1), cmap="Greys", vmax=4)
        for name, colour, label in (
            ("free_path", RED, "without clipping"),
            ("clipped_path", BLUE, "clipped to norm 1"),
        ):
            axes.plot(*page[name].T, color=colour, lw=1.5, marker="o", ms=3.5, label=label)
        axes.plot(*page["free_path"][0], color="black", marker="o", ms=7)
        axes.set(xlim=w_range, ylim=b_range, xlabel="w", ylabel="b")
        axes.grid(False)
    whole.set_title("Two plains and a cliff", loc="left")
    whole.legend(loc="upper left")
    near.set_title("The same, near the start (black)", loc="left")
    figure.colorbar(surface, ax=[whole, near], label="loss", ticks=[0, 0.5, 1, 1.5, 2])
    return figure


def clipping(page: dict[str, Any]) -> Figure:
    """Loss and length of the update while training with exploding weights."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True, sharey="row")
    titles = {"sgd": "Gradient descent, s = 3", "adamw": "AdamW, s = 3"}
    for (optimizer, title), (above, below) in zip(titles.items(), grid.T, strict=True):
        for clip_norm, colour, label in (
            (page["never"], RED, "without clipping"),
            (2.0, BLUE, "clipped to norm 2"),
        ):
            history = page["runs"][optimizer, 3.0, clip_norm]
            above.plot(history[:, 0], color=colour, label=label)
            below.plot(history[:, 2].clamp(min=1e-3), color=colour)
        above.set(title=title, ylim=(0, 5))
        below.set(xlabel="training step", yscale="log")
    grid[0, 0].set_ylabel("CTC loss")
    grid[1, 0].set_ylabel("length of the update")
    grid[0, 1].legend()
    return figure


def _labelled(axes: Axes, gradient: Tensor, label: str, colour: str) -> None:
    """Plot a gradient over distance, its name where the line leaves the picture."""
    axes.plot(gradient, color=colour)
    end = int((gradient > 100 * FLOOR).nonzero().max())
    place = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
    axes.annotate(label, (end, gradient[end]), color=colour, **place)


def _gradient_axes(axes: Axes, ceiling: float) -> None:
    axes.set(xlim=(0, 120), ylim=(FLOOR, ceiling), yscale="log")
    axes.set_xlabel("distance from the last frame, encoder steps of 40 ms")


if __name__ == "__main__":
    draw_figures(run_page(), IMAGES)
