"""Matrices in eight bits: whole numbers from -127 to 127, and a scale for each row.

The largest number of a row becomes 127 or -127, and no number of it moves by more than half of
what one step is worth. Rows are what one unit or one gate reads, which differ in size, and so a
scale each costs a hundredth of the space and saves most of the error (Jacob et al. 2018,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference").
Only files are smaller: what is read from them computes in float32.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

SCALES = ".scales"  # a matrix NAME is stored with the tensor NAME.scales
LARGEST = 127


def quantise(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return each tensor (rows, …) of several axes as int8 with scales (rows,), others in float16.

    Tensors that are no floating-point numbers stay as they are.
    """
    stored = {}
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            stored[name] = tensor
        elif tensor.ndim < 2:
            stored[name] = tensor.half()
        else:
            rows = tensor.float().flatten(1)
            scales = rows.abs().amax(dim=1, keepdim=True) / LARGEST
            steps = (rows / scales.where(scales > 0, 1.0)).round().clamp(-LARGEST, LARGEST)
            stored[name] = steps.to(torch.int8).view(tensor.shape)
            stored[name + SCALES] = scales.flatten()
    return stored


def restore(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under their names, those in eight bits as float32; undoes `quantise`.

    Raises:
        ValueError: a tensor has scales, but not one in float32 for each row.
    """
    weights = {}
    for name, tensor in stored.items():
        if name.endswith(SCALES) and name.removesuffix(SCALES) in stored:
            continue
        weights[name] = tensor
        scales = stored.get(name + SCALES)
        if scales is not None:
            right = scales.shape == tensor.shape[:1] and scales.dtype == torch.float32
            if tensor.dtype != torch.int8 or tensor.ndim < 2 or not right:
                raise ValueError(f"weights {name!r} have no scale for each row")
            weights[name] = (tensor.flatten(1) * scales[:, None]).view(tensor.shape)
    return weights
