"""Draw the stages of the packaged model from the table in ``recipes/librispeech/RESULTS.md``.

Usage, with the package installed: python docs/make_results_plot.py
"""

import re
from pathlib import Path

from matplotlib.figure import Figure

from asr.plots.style import BLUE, GREEN, ORANGE, save, style

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "recipes" / "librispeech" / "RESULTS.md"
PICTURE = Path(__file__).with_name("images") / "stages.svg"
WAYS = {
    "greedily": ORANGE,
    "with n-grams": BLUE,
    "and a recurrent model": GREEN,
}
ROW = re.compile(r"^\| (\d+): [^|]+\|([^|]*)\|([^|]*)\|([^|]*)\|$", re.MULTILINE)
RATE = re.compile(r"([\d.]+) \(([\d.]+) to ([\d.]+)\)")  # percent, with its interval

Rates = list[tuple[int, float, float, float]]  # stage, WER %, its interval


def stages(text: str) -> dict[str, Rates]:
    """Return for each way of decoding the stages that were measured so, the first one first."""
    found: dict[str, Rates] = {way: [] for way in WAYS}
    for number, *cells in reversed(ROW.findall(text)):
        for way, cell in zip(WAYS, cells, strict=True):
            if rate := RATE.search(cell):
                low_to_high = [float(figure) for figure in rate.groups()]
                found[way].append((int(number), *low_to_high))  # type: ignore[arg-type]
    return found


def draw(found: dict[str, Rates]) -> Figure:
    """Return a line for each way of decoding over the stages, in a band of 95 %."""
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.subplots()
    for way, rates in found.items():
        numbers, errors, low, high = zip(*rates, strict=True)
        axes.fill_between(numbers, low, high, color=WAYS[way], alpha=0.15, linewidth=0)
        axes.plot(numbers, errors, marker="o", markersize=4, color=WAYS[way])
        axes.annotate(
            f"{errors[-1]:.1f} {way}",
            (numbers[-1], errors[-1]),
            xytext=(8, {"with n-grams": 6, "and a recurrent model": -6}.get(way, 0)),
            textcoords="offset points",
            va="center",
            color=WAYS[way],
        )
    axes.set(
        title="Word errors of the packaged model, stage by stage",
        xlabel="stage of training",
        ylabel="WER %, dev-clean, 10 speakers",
        ylim=(0, None),
        xticks=[number for number, *_ in found["greedily"]],
    )
    return figure


def main() -> None:
    """Draw the picture of the table as it stands."""
    with style():
        save(draw(stages(RESULTS.read_text("utf-8"))), PICTURE)


if __name__ == "__main__":
    main()
