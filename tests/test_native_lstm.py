"""The C kernel beside ``nn.LSTM``."""

import pytest
import torch
from kernel import needs_kernel
from torch import Tensor

from asr.errors import ConfigError
from asr.models import native_lstm as native
from asr.models.encoder import Encoder, EncoderConfig
from asr.models.recurrent import RecurrentLayer, reversal_index


def error(actual: Tensor, expected: Tensor) -> float:
    return float((actual.float() - expected.float()).norm() / expected.float().norm())


@needs_kernel
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("lengths", "size"), [([5], 64), ([50, 3, 21], 64), ([33, 33, 30, 7, 1, 12, 29], 128)]
)
def test_results_and_gradients_are_those_of_the_library(
    lengths: list[int], size: int, bidirectional: bool, threads: int
) -> None:
    """In relative norm, the errors are those of eight bits; the library's own are as large."""
    torch.manual_seed(len(lengths))
    layer = RecurrentLayer("lstm", 96, size, bidirectional)
    time = max(lengths)
    index = reversal_index(torch.tensor(lengths), time)
    valid = (torch.arange(time) < torch.tensor(lengths)[:, None])[..., None]
    direction = torch.randn(len(lengths), time, size * (1 + bidirectional))

    def run() -> list[Tensor]:
        x = torch.randn(len(lengths), time, 96, generator=torch.Generator().manual_seed(1))
        x.requires_grad_()
        y = layer(x, index) * valid
        (y * direction).sum().backward()
        gradients = [parameter.grad for parameter in layer.parameters()]
        layer.zero_grad()
        return [y.detach(), x.grad * valid, *gradients]  # type: ignore[list-item, operator]

    expected = run()
    layer.kernel = native.native_lstm
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        actual = run()
    finally:
        torch.set_num_threads(before)
    errors = [error(a, e) for a, e in zip(actual, expected, strict=True)]
    assert max(errors) < 0.01, errors


@needs_kernel
def test_only_layers_that_fit_are_taken() -> None:
    fits = Encoder(20, EncoderConfig(hidden_size=64, num_layers=2))
    native.use_native_lstm(fits)
    assert fits.blocks[1].recurrent.kernel is native.native_lstm  # type: ignore[union-attr]
    for config in EncoderConfig(hidden_size=32), EncoderConfig(cell="gru", hidden_size=64):
        with pytest.raises(ConfigError, match="multiple of 64"):
            native.use_native_lstm(Encoder(20, config))


def test_a_machine_without_compiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(native.shutil, "which", lambda _: None)
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(ConfigError, match="C compiler"):
        native._kernel.__wrapped__()
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    with pytest.raises(ConfigError, match="AVX512-BF16"):
        native._kernel.__wrapped__()
