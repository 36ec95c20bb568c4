"""Linear layers with gradients, in the form that is fast on a CPU in float32.

Own code. Everywhere else (GPUs, reduced precision, autocast) it is PyTorch's own function.

Shape suffixes: N positions, C and D channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from detgraft.kernels.products import linear as quick_product
from detgraft.kernels.recording import is_float32_on_cpu


def linear(x: Tensor, weight_DC: Tensor, bias_D: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias`` over the last dimension: (..., C) to (..., D)."""
    if not is_float32_on_cpu(x, weight_DC):
        return F.linear(x, weight_DC, bias_D)
    flat: Tensor = _CpuLinear.apply(x.reshape(-1, x.shape[-1]), weight_DC, bias_D)
    return flat.view(*x.shape[:-1], -1)


class _CpuLinear(torch.autograd.Function):
    """A linear layer whose three products go through oneDNN (see `detgraft.kernels.products` for why)."""

    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, weight_DC: Tensor, bias_D: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_NC, weight_DC)
        return quick_product(x_NC, weight_DC, bias_D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_ND: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x_NC, weight_DC = ctx.saved_tensors
        for_x = quick_product(gradient_ND, weight_DC.t()) if ctx.needs_input_grad[0] else None
        for_weight = quick_product(gradient_ND.t(), x_NC.t()) if ctx.needs_input_grad[1] else None
        for_bias = gradient_ND.sum(0) if ctx.needs_input_grad[2] else None
        return for_x, for_weight, for_bias
