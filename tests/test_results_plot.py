"""The picture of the stages shows what the table says."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / "docs" / "make_results_plot.py"))

TABLE = """
| stage, and what is new | greedy | with n-grams | and a recurrent model |
|---|---|---|---|
| 3: [more](x.md) | 40.50 (39.00 to 42.00) | 20.00 (18.00 to 22.00) | 19.00 (17.00 to 21.00) |
| 1: first | 60.25 (58.00 to 63.00) | 30.00 (28.00 to 33.00) | |
"""


def test_rates_of_the_table_in_order_without_empty_cells() -> None:
    greedy, n_grams, both = SCRIPT["stages"](TABLE).values()
    assert greedy == [(1, 60.25, 58, 63), (3, 40.5, 39, 42)]
    assert n_grams == [(1, 30, 28, 33), (3, 20, 18, 22)]
    assert both == [(3, 19, 17, 21)]


def test_the_picture_in_the_documents_is_that_of_the_results() -> None:
    results = SCRIPT["RESULTS"].read_text("utf-8")
    axes = SCRIPT["draw"](SCRIPT["stages"](results)).axes[0]
    picture = SCRIPT["PICTURE"].read_text("utf-8")
    for label in axes.texts:
        assert f"<!-- {label.get_text()} -->" in picture
