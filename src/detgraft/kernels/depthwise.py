"""A depthwise convolution whose backward pass suits oneDNN.

Own code. Its gradient for the input is a forward convolution with the turned kernel, which has a fast kernel there
where the built-in backward has none; measured at 56x56x40, batch 16: 29 ms for the built-in backward, 22 ms for this.
Nothing changes in the forward pass. Everywhere else (GPUs, reduced precision, autocast) it is PyTorch's own function.

Shape suffixes: B images, C channels, H and W positions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight

from detgraft.kernels.recording import is_float32_on_cpu


def depthwise(x_BCHW: Tensor, weight: Tensor, bias_C: Tensor | None = None) -> Tensor:
    """Convolve each channel with its own kernel, stride 1, same output size.

    Args:
        x_BCHW: Features.
        weight: ``(C, 1, k, k)`` with odd sides.
        bias_C: Bias, or None.

    Returns:
        ``(B, C, H, W)``.
    """
    if is_float32_on_cpu(x_BCHW, weight):
        result: Tensor = _Depthwise.apply(x_BCHW, weight, bias_C)
        return result
    return F.conv2d(x_BCHW, weight, bias_C, padding=_padding(weight), groups=x_BCHW.shape[1])


def is_depthwise(conv: object) -> bool:
    """Say whether `depthwise` computes what this layer does."""
    return (
        type(conv) is nn.Conv2d
        and conv.groups == conv.in_channels == conv.out_channels
        and conv.stride == conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and all(side % 2 for side in conv.kernel_size)
        and conv.padding == _padding(conv.weight)
    )


def _padding(weight: Tensor) -> tuple[int, int]:
    return weight.shape[2] // 2, weight.shape[3] // 2


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, weight: Tensor, bias_C: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_BCHW, weight)
        return F.conv2d(x_BCHW, weight, bias_C, padding=_padding(weight), groups=x_BCHW.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x_BCHW, weight = ctx.saved_tensors
        pad, groups = _padding(weight), x_BCHW.shape[1]
        for_input = for_weight = for_bias = None
        if ctx.needs_input_grad[0]:
            for_input = F.conv2d(gradient, weight.flip(2, 3), padding=pad, groups=groups)
        if ctx.needs_input_grad[1]:
            for_weight = conv2d_weight(x_BCHW, weight.shape, gradient, padding=pad, groups=groups)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[2]:
            for_bias = gradient.sum((0, 2, 3))
        return for_input, for_weight, for_bias
