"""Linear layers and depthwise convolutions with gradients, in the forms that are fast on a CPU in float32.

Own code. Everywhere else (GPUs, reduced precision, autocast) these are PyTorch's own functions.

Shape suffixes: B images, C and D channels, H and W positions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight

from detgraft.kernels.products import linear as quick_product


def linear(x: Tensor, weight_DC: Tensor, bias_D: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias`` over the last dimension: (..., C) to (..., D)."""
    if not _plain_cpu(x, weight_DC):
        return F.linear(x, weight_DC, bias_D)
    flat: Tensor = _CpuLinear.apply(x.reshape(-1, x.shape[-1]), weight_DC, bias_D)
    return flat.view(*x.shape[:-1], -1)


def depthwise(x_BCHW: Tensor, weight: Tensor) -> Tensor:
    """Depthwise convolution with stride 1 and the same output size, without bias; ``weight`` is (C, 1, k, k)."""
    if not _plain_cpu(x_BCHW, weight):
        return F.conv2d(x_BCHW, weight, padding=_padding(weight), groups=x_BCHW.shape[1])
    result: Tensor = _CpuDepthwise.apply(x_BCHW, weight)
    return result


def _plain_cpu(x: Tensor, weight: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def _padding(weight: Tensor) -> tuple[int, int]:
    return weight.shape[2] // 2, weight.shape[3] // 2


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


class _CpuDepthwise(torch.autograd.Function):
    """A depthwise convolution whose backward suits oneDNN.

    Its gradient for the input is a forward convolution with the turned kernel, which has a fast kernel there where the
    built-in backward has none; measured at 56x56x40, batch 16: 29 ms for the built-in backward, 22 ms for this.
    """

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x_BCHW, weight)
        return F.conv2d(x_BCHW, weight, padding=_padding(weight), groups=x_BCHW.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x_BCHW, weight = ctx.saved_tensors
        pad, groups = _padding(weight), x_BCHW.shape[1]
        for_input = for_weight = None
        if ctx.needs_input_grad[0]:
            for_input = F.conv2d(gradient, weight.flip(2, 3), padding=pad, groups=groups)
        if ctx.needs_input_grad[1]:
            for_weight = conv2d_weight(x_BCHW, weight.shape, gradient, padding=pad, groups=groups)  # type: ignore[no-untyped-call]
        return for_input, for_weight
