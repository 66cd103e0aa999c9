"""Faster LSTM training on CPUs with AVX512-BF16: a C kernel, compiled where it runs.

``nn.LSTM`` on a CPU multiplies small matrices step by step, most of all on the way back. Here
whatever does not wait for the step before is one large product over all frames (the inputs' part of
the gates, the gradients of inputs and weights), and only the recurrence itself runs step by step,
in ``native_lstm.c``. Directions and blocks of items share PyTorch's threads. All products are of
bfloat16 with float32 sums, as in ``nn.LSTM`` under autocast.

Reference: Appleyard et al. 2016, "Optimizing Performance of Recurrent Neural Networks on GPUs",
which splits the products in the same way.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from asr.errors import ConfigError
from asr.models.recurrent import RecurrentLayer

SOURCE = Path(__file__).with_suffix(".c")
BLOCK = 64  # hidden units the kernel takes at once


@cache
def _kernel() -> ctypes.CDLL:
    """Compile and load the kernel.

    Raises:
        ConfigError: this machine has no C compiler, or its CPU lacks AVX512-BF16.
    """
    if not torch.cpu._is_avx512_bf16_supported():
        raise ConfigError("native_lstm needs a CPU with AVX512-BF16; leave it out")
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if not compiler:
        raise ConfigError("native_lstm needs a C compiler (gcc or clang); leave it out")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        library = Path(folder) / "native_lstm.so"
        options = ["-O3", "-march=native", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
        for more in (["-fopenmp"], []):  # slower without, on one thread
            command = [compiler, *more, *options]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                return ctypes.CDLL(str(library))
        error = done.stderr.strip()[-200:]
        raise ConfigError(f"{compiler} cannot compile native_lstm: {error}")


def _run(
    function: Any,
    order: Tensor,
    weights: Tensor,
    gates: Tensor,
    hidden: Tensor,
    cells: Tensor,
    *biases: Tensor,
) -> None:
    """Call the kernel.

    Args:
        function: ``lstm_forward`` or ``lstm_backward``.
        order: (directions, batch, time) int64, the frame of each step.
        weights: (directions, …) bfloat16, packed.
        gates: (batch, time, directions, 4 * size) bfloat16.
        hidden: (batch, time, directions, size) bfloat16, the states; back, their gradients.
        cells: (directions, batch, time, size) float32.
        biases: back only, (directions, batch, 4 * size) float32, zeros.
    """
    batch, time, directions, size = hidden.shape
    tensors = (order, weights, gates, hidden, cells, *biases)
    assert all(tensor.is_contiguous() for tensor in tensors)
    function(
        *map(ctypes.c_int64, (torch.get_num_threads(), directions, batch, time, size)),
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors),
    )


class _Lstm(torch.autograd.Function):
    """One layer: x (batch, time, inputs) to h (batch, time, directions * size), bfloat16."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, order: Tensor
    ) -> Tensor:
        kernel = _kernel()
        (batch, time, _), (directions, _, size) = x.shape, w_hh.shape
        ctx.dtype = x.dtype
        x, w_ih, w_hh = (t.to(torch.bfloat16).contiguous() for t in (x, w_ih, w_hh))
        gates = nn.functional.linear(x, w_ih, bias.to(torch.bfloat16)).unflatten(
            2, (directions, -1)
        )
        hidden = gates.new_empty(batch, time, directions, size)
        cells = x.new_empty(directions, batch, time, size, dtype=torch.float32)
        # (4, size / 16, 16, size / 2, 2) to (size / 16, size / 2, 4, 16, 2)
        packed = w_hh.view(directions, 4, size // 16, 16, size // 2, 2).permute(0, 2, 4, 1, 3, 5)
        _run(kernel.lstm_forward, order, packed.contiguous(), gates, hidden, cells)
        ctx.save_for_backward(x, w_ih, w_hh, order, gates, hidden, cells)
        return hidden.flatten(2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, w_ih, w_hh, order, gates, hidden, cells = ctx.saved_tensors
        directions, _, size = w_hh.shape
        gates = gates.clone()  # the kernel writes gradients in their place
        d_hidden = gradients[0].to(torch.bfloat16).contiguous().view_as(hidden)
        # (2 size, 2, size / 64, 64) to (size / 64, 2 size, 64, 2)
        packed = w_hh.view(directions, 2 * size, 2, size // BLOCK, BLOCK).permute(0, 3, 1, 4, 2)
        d_bias = cells.new_zeros(directions, len(x), 4 * size)
        _run(_kernel().lstm_backward, order, packed.contiguous(), gates, d_hidden, cells, d_bias)
        flat = gates.flatten(2).flatten(0, 1)
        d_x = (flat @ w_ih).view(x.shape).to(ctx.dtype)
        d_w_ih = (flat.T @ x.flatten(0, 1)).float()
        d_w_hh = torch.stack(
            [
                (gates[:, :, d].flatten(0, 1).T @ _before(hidden[:, :, d], order[d])).float()
                for d in range(directions)
            ]
        )
        return d_x, d_w_ih, d_w_hh, d_bias.sum(dim=1).flatten(), None


def _before(hidden: Tensor, order: Tensor) -> Tensor:
    """Return, for each frame of (batch, time, size), h of the step before; flat."""
    batch, time, _ = hidden.shape
    first, rows = order[:, :1], torch.empty_like(order)
    # Of the first step the row is arbitrary, and zero in the end.
    rows.scatter_(1, order, torch.cat([first, order[:, :-1]], dim=1))
    starts = torch.arange(batch)[:, None] * time
    before = hidden.flatten(0, 1).index_select(0, (rows + starts).flatten())
    return before.index_fill_(0, (first + starts).flatten(), 0)


def native_lstm(layer: RecurrentLayer, x: Tensor, index: Tensor) -> Tensor:
    """Run an LSTM layer through the kernel: as ``RecurrentLayer.forward``, in bfloat16.

    Raises:
        ConfigError: there is no kernel on this machine.
    """
    steps = torch.arange(x.shape[1]).expand_as(index)
    cells = [cell for cell in (layer.forwards, layer.backwards) if cell is not None]
    return _Lstm.apply(  # type: ignore[no-any-return, no-untyped-call]
        x,
        torch.cat([cell.weight_ih_l0 for cell in cells]),  # type: ignore[misc]
        torch.stack([cell.weight_hh_l0 for cell in cells]),  # type: ignore[misc]
        torch.cat([cell.bias_ih_l0 + cell.bias_hh_l0 for cell in cells]),  # type: ignore[operator]
        torch.stack([steps, index][: len(cells)]).contiguous(),
    )


def use_native_lstm(model: nn.Module) -> None:
    """Send all LSTM layers of a model on a CPU through the kernel.

    Raises:
        ConfigError: there is no kernel on this machine, or the layers are not such that it fits.
    """
    _kernel()
    for layer in model.modules():
        if isinstance(layer, RecurrentLayer):
            if not isinstance(layer.forwards, nn.LSTM) or layer.forwards.hidden_size % BLOCK:
                raise ConfigError(
                    f"native_lstm is for LSTM layers whose hidden_size is a multiple of {BLOCK}"
                )
            layer.kernel = native_lstm
