"""Matrices in eight bits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from asr.quantisation import quantise, restore


def weights_of(seed: int, size: float) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    sizes = torch.tensor([0.0, 1e-4, 1.0, 30.0]) * size  # of each row
    return {
        "matrix": torch.randn(4, 50) * sizes[:, None],
        "kernel": torch.randn(4, 2, 3, 3) * sizes[:, None, None, None],
        "bias": torch.randn(4),
        "count": torch.tensor(7),
    }


@given(st.integers(0, 99), st.sampled_from([1e-30, 1e-3, 1.0, 1e5]))
def test_no_number_moves_by_more_than_half_of_a_step_of_its_row(seed: int, size: float) -> None:
    weights = weights_of(seed, size)
    stored = quantise(weights)
    restored = restore(stored)
    assert restored.keys() == weights.keys()
    for name in ("matrix", "kernel"):
        assert stored[name].dtype == torch.int8 and restored[name].dtype == torch.float32
        moved = (restored[name] - weights[name]).flatten(1).abs().amax(dim=1)
        largest = weights[name].flatten(1).abs().amax(dim=1)
        assert bool((moved <= 0.501 * largest / 127).all())
    assert torch.equal(restored["bias"], weights["bias"].half())
    assert torch.equal(restored["count"], weights["count"])


@given(st.integers(0, 99))
def test_what_was_quantised_stays_the_same(seed: int) -> None:
    once = restore(quantise(weights_of(seed, 1.0)))
    for name, tensor in restore(quantise(once)).items():
        assert torch.equal(tensor, once[name]), name


@pytest.mark.parametrize(
    "scales",
    [
        torch.ones(5),
        torch.ones(4, 1),
        torch.tensor(1.0),
        torch.ones(4, dtype=torch.int8),
        torch.ones(4).to(torch.float8_e4m3fn),
    ],
)
def test_a_row_without_a_scale_is_refused(scales: Tensor) -> None:
    stored = quantise(weights_of(0, 1.0)) | {"matrix.scales": scales}
    with pytest.raises(ValueError, match="'matrix' have no scale for each row"):
        restore(stored)


def test_scales_of_nothing_stay_for_the_reader_to_refuse() -> None:
    assert restore({"lost.scales": torch.ones(4)}).keys() == {"lost.scales"}
