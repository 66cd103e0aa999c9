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
    *more: Tensor,
) -> None:
    """Call the kernel.

    Args:
        function: ``lstm_forward`` or ``lstm_backward``.
        order: (directions, batch, time) int64, the frame of each step.
        weights: (directions, …) bfloat16, packed.
        gates: (batch, time, directions, 4 * size) bfloat16.
        hidden: (batch, time, directions, size) bfloat16, the states; back, their gradients.
        cells: (directions, batch, time, size) float32.
        more: (directions, batch, size), before the first step: forwards hidden in bfloat16, then
            cells in float32; back these cells, then (directions, batch, 4 * size) zeros in
            float32, for the gradient of the biases.
    """
    batch, time, directions, size = hidden.shape
    tensors = (order, weights, gates, hidden, cells, *more)
    assert all(tensor.is_contiguous() for tensor in tensors)
    function(
        *map(ctypes.c_int64, (torch.get_num_threads(), directions, batch, time, size)),
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors),
    )


class _Lstm(torch.autograd.Function):
    """One layer: x (batch, time, inputs) to h (batch, time, directions * size), bfloat16.

    The state before the first step, (2, directions, batch, size), gets no gradient, nor do the
    cells, (directions, batch, time, size) float32, that come with h.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, order: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
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
        ctx.set_materialize_grads(False)  # of the cells, which have none
        first = state[0].to(torch.bfloat16).contiguous(), state[1].float().contiguous()
        _run(kernel.lstm_forward, order, packed.contiguous(), gates, hidden, cells, *first)
        ctx.save_for_backward(x, w_ih, w_hh, order, gates, hidden, cells, *first)
        ctx.mark_non_differentiable(cells)
        return hidden.flatten(2), cells

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, w_ih, w_hh, order, gates, hidden, cells, *first = ctx.saved_tensors
        directions, _, size = w_hh.shape
        gates = gates.clone()  # the kernel writes gradients in their place
        d_hidden = gradients[0].to(torch.bfloat16).contiguous().view_as(hidden)
        # (2 size, 2, size / 64, 64) to (size / 64, 2 size, 64, 2)
        packed = w_hh.view(directions, 2 * size, 2, size // BLOCK, BLOCK).permute(0, 3, 1, 4, 2)
        d_bias = cells.new_zeros(directions, len(x), 4 * size)
        backward = _kernel().lstm_backward
        _run(backward, order, packed.contiguous(), gates, d_hidden, cells, first[1], d_bias)
        flat = gates.flatten(2).flatten(0, 1)
        d_x = (flat @ w_ih).view(x.shape).to(ctx.dtype) if ctx.needs_input_grad[0] else None
        d_w_ih = (flat.T @ x.flatten(0, 1)).float()
        d_w_hh = torch.stack(
            [
                (
                    gates[:, :, d].flatten(0, 1).T @ _before(hidden[:, :, d], order[d], first[0][d])
                ).float()
                for d in range(directions)
            ]
        )
        return d_x, d_w_ih, d_w_hh, d_bias.sum(dim=1).flatten(), None, None


def _before(hidden: Tensor, order: Tensor, state: Tensor) -> Tensor:
    """Return, for each frame of (batch, time, size), h of the step before; flat.

    That before the first step is ``state``, (batch, size).
    """
    batch, time, _ = hidden.shape
    first, rows = order[:, :1], torch.empty_like(order)
    # Of the first step the row is arbitrary, and the state in the end.
    rows.scatter_(1, order, torch.cat([first, order[:, :-1]], dim=1))
    starts = torch.arange(batch)[:, None] * time
    before = hidden.flatten(0, 1).index_select(0, (rows + starts).flatten())
    return before.index_copy_(0, (first + starts).flatten(), state)


def native_lstm(layer: RecurrentLayer, x: Tensor, index: Tensor) -> Tensor:
    """Run an LSTM layer through the kernel: as ``RecurrentLayer.forward``, in bfloat16.

    Raises:
        ConfigError: there is no kernel on this machine.
    """
    steps = torch.arange(x.shape[1]).expand_as(index)
    cells = [cell for cell in (layer.forwards, layer.backwards) if cell is not None]
    hidden, _ = _Lstm.apply(  # type: ignore[no-untyped-call]
        x,
        torch.cat([cell.weight_ih_l0 for cell in cells]),  # type: ignore[misc]
        torch.stack([cell.weight_hh_l0 for cell in cells]),  # type: ignore[misc]
        torch.cat([cell.bias_ih_l0 + cell.bias_hh_l0 for cell in cells]),  # type: ignore[operator]
        torch.stack([steps, index][: len(cells)]).contiguous(),
        x.new_zeros(2, len(cells), len(x), layer.forwards.hidden_size),
    )
    return hidden  # type: ignore[no-any-return]


def native_stack(rnn: nn.LSTM, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Run the layers of one direction through the kernel: as ``nn.LSTM``, in bfloat16.

    Args:
        rnn: layers in one direction, ``batch_first``.
        x: (batch, time, inputs).
        state: (2, layers, batch, size), output and cell before the first step; no gradient
            reaches back to it.

    Returns:
        (batch, time, size), and the state after the last step, without a gradient.

    Raises:
        ConfigError: there is no kernel on this machine.
    """
    order = torch.arange(x.shape[1]).expand(1, *x.shape[:2]).contiguous()
    after = []
    for layer, (w_ih, w_hh, b_ih, b_hh) in enumerate(rnn.all_weights):
        x, cells = _Lstm.apply(  # type: ignore[no-untyped-call]
            x, w_ih, w_hh[None], b_ih + b_hh, order, state[:, layer, None]
        )
        after.append(torch.stack([x[:, -1].detach().float(), cells[0, :, -1]]))
    return x, torch.stack(after, dim=1)


def use_native_lstm(model: nn.Module) -> None:
    """Send all LSTM layers of a model on a CPU through the kernel.

    Raises:
        ConfigError: there is no kernel on this machine, or the layers are not such that it fits.
    """
    for layer in model.modules():
        if isinstance(layer, RecurrentLayer):
            check_native_lstm(layer.forwards)
            layer.kernel = native_lstm


def check_native_lstm(rnn: nn.Module) -> None:
    """Refuse layers that the kernel cannot compute.

    Raises:
        ConfigError: they are no LSTM, or not such that it fits; there is no kernel on this machine.
    """
    if not isinstance(rnn, nn.LSTM) or rnn.hidden_size % BLOCK:
        raise ConfigError(
            f"native_lstm is for LSTM layers whose hidden_size is a multiple of {BLOCK}"
        )
    _kernel()
