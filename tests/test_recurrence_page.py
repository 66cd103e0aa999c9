"""The page docs/recurrence.md runs, its steps are torch's, and its figures can be drawn."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

DOCS = Path(__file__).parents[1] / "docs"
SCRIPT = runpy.run_path(str(DOCS / "make_recurrence_plots.py"))


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """Everything the page defines; its own asserts have passed when this returns."""
    return SCRIPT["run_page"]()


def small(largest: int) -> st.SearchStrategy[int]:
    return st.integers(1, largest)


def any_shape(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test over random (batch, time, inputs, hidden)."""
    shapes = st.tuples(small(4), small(20), small(9), small(17))
    return settings(max_examples=50, deadline=None)(
        given(shape=shapes, seed=st.integers(0, 999))(test)
    )


def make(
    rnn_class: type[nn.RNNBase], shape: tuple[int, ...], seed: int, **options: Any
) -> tuple[Any, Tensor, Tensor, Tensor]:
    """Return torch's recurrence, its input and two initial states."""
    batch, time, inputs, hidden = shape
    torch.manual_seed(seed)
    rnn = rnn_class(inputs, hidden, batch_first=True, dtype=torch.float64, **options)
    states = torch.randn(2, batch, hidden, dtype=torch.float64)
    return rnn, torch.randn(batch, time, inputs, dtype=torch.float64), *states


def difference(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@any_shape
def test_the_plain_step_is_torchs(
    page: dict[str, Any], nonlinearity: str, shape: tuple[int, ...], seed: int
) -> None:
    rnn, x, h, _ = make(nn.RNN, shape, seed, nonlinearity=nonlinearity)
    expected, last = rnn(x, h[None])
    w, u, b, c = rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0, rnn.bias_hh_l0
    for t in range(x.shape[1]):
        h = page["rnn_step"](x[:, t], h, w, u, b + c, getattr(torch, nonlinearity))
        assert difference(h, expected[:, t]) < 1e-6
    assert difference(h, last[0]) < 1e-6


@any_shape
def test_the_lstm_step_is_torchs(page: dict[str, Any], shape: tuple[int, ...], seed: int) -> None:
    rnn, x, h, c = make(nn.LSTM, shape, seed)
    expected, (_, last_cell) = rnn(x, (h[None], c[None]))
    bias = rnn.bias_ih_l0 + rnn.bias_hh_l0
    for t in range(x.shape[1]):
        h, c = page["lstm_step"](x[:, t], h, c, rnn.weight_ih_l0, rnn.weight_hh_l0, bias)
        assert difference(h, expected[:, t]) < 1e-6
    assert difference(c, last_cell[0]) < 1e-6


@any_shape
def test_the_gru_step_is_torchs(page: dict[str, Any], shape: tuple[int, ...], seed: int) -> None:
    rnn, x, h, _ = make(nn.GRU, shape, seed)
    expected, _ = rnn(x, h[None])
    for t in range(x.shape[1]):
        h = page["gru_step"](x[:, t], h, *page["weights"](rnn))
        assert difference(h, expected[:, t]) < 1e-6


def test_the_figures_can_be_drawn(page: dict[str, Any], tmp_path: Path) -> None:
    SCRIPT["draw_figures"](page, tmp_path)
    shown = set(re.findall(r"\]\(images/(\w+\.png)\)", SCRIPT["PAGE"].read_text(encoding="utf-8")))
    assert {path.name for path in tmp_path.iterdir()} == shown
    assert all(0 < (DOCS / "images" / name).stat().st_size < 150_000 for name in shown)


def test_a_wrong_claim_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("One.\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n")
    with pytest.raises(AssertionError) as failure:
        SCRIPT["run_page"](page)
    assert failure.traceback[-1].lineno + 1 == 8
