"""The C kernel beside ``nn.LSTM``."""

from collections.abc import Callable

import pytest
import torch
from kernel import needs_kernel
from torch import Tensor, nn

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
def test_a_stack_starts_from_a_state_and_returns_its_own() -> None:
    torch.manual_seed(1)
    rnn = nn.LSTM(96, 128, num_layers=2, batch_first=True)
    first, direction = torch.randn(2, 2, 7, 128), torch.randn(7, 20, 128)

    def run(stack: Callable[[nn.LSTM, Tensor, Tensor], tuple[Tensor, Tensor]]) -> list[Tensor]:
        x = torch.randn(7, 20, 96, generator=torch.Generator().manual_seed(1)).requires_grad_()
        start, ys = first, []
        for piece in x.split(12, dim=1):  # the state goes on, the gradient does not
            y, start = stack(rnn, piece, start)
            start = start.detach()
            ys.append(y)
        y = torch.cat(ys, dim=1)
        (y * direction).sum().backward()
        gradients = [parameter.grad for parameter in rnn.parameters()]
        rnn.zero_grad()
        return [y.detach(), start, x.grad, *gradients]  # type: ignore[list-item]

    def library(rnn: nn.LSTM, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, after = rnn(x, (state[0], state[1]))
        return y, torch.stack(after)

    pairs = zip(run(native.native_stack), run(library), strict=True)
    errors = [error(a, e) for a, e in pairs]
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
