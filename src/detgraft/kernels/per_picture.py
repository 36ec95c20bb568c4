"""A convolution with an own kernel for every picture, on the CPU: one after the other, forward and backward.

Own code. The usual form, one convolution with the batch in its groups, makes PyTorch's CPU convolution rearrange the
whole batch at once; picture by picture, features stay in the cache. Measured on one core at (8, 64, 80, 80): 0.6 of
the grouped form's time forward, 0.7 backward; for small pictures only the backward pass gains. Autograd's own slices
would cost more than is won, since the gradient of each is a tensor of the whole batch's size; hence the function of its
own.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from detgraft.kernels.layout import layout_of
from detgraft.kernels.recording import is_autocast, is_recorded

GROUPED_UP_TO = 300_000
"""Values of one picture up to which the grouped form is the faster one forward (128x40x40 is, 64x80x80 is not); its
pictures have to lie one after the other, so that it is none for channels-last features."""


def is_faster_per_picture(x_BCHW: Tensor) -> bool:
    """Say whether `conv2d_per_picture` runs here and is the faster form."""
    return (
        not is_recorded()
        and x_BCHW.device.type == "cpu"
        and x_BCHW.dtype in (torch.float32, torch.float64)
        and not is_autocast()
    )


def conv2d_per_picture(
    x_BCHW: Tensor, kernels: Tensor, bias: Tensor | None, stride: int, padding: int, dilation: int, groups: int
) -> Tensor:
    """Convolve each picture with its own kernel.

    Args:
        x_BCHW: Features ``(B, c1, H, W)``, at least one picture.
        kernels: ``(B * c2, c1 // groups, k, k)``, picture by picture.
        bias: ``(B * c2,)``, or None.
        stride: Stride in both directions.
        padding: Padding on all sides.
        dilation: Dilation in both directions.
        groups: Groups within a picture.

    Returns:
        ``(B, c2, H', W')``.
    """
    y: Tensor = _PerPicture.apply(x_BCHW, kernels, bias, stride, padding, dilation, groups)
    return y


class _PerPicture(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_BCHW: Tensor,
        kernels: Tensor,
        bias: Tensor | None,
        stride: int,
        padding: int,
        dilation: int,
        groups: int,
    ) -> Tensor:
        batch = x_BCHW.shape[0]
        ctx.save_for_backward(x_BCHW, kernels)
        ctx.geometry, ctx.groups = ([stride] * 2, [padding] * 2, [dilation] * 2, False, [0, 0]), groups
        layout = layout_of(x_BCHW)
        if layout is torch.contiguous_format and x_BCHW[0].numel() <= GROUPED_UP_TO:
            x = x_BCHW.reshape(1, -1, *x_BCHW.shape[2:])
            y = F.conv2d(x, kernels, bias, stride, padding, dilation, batch * groups)
            return y.view(batch, -1, *y.shape[2:])
        biases = [None] * batch if bias is None else bias.chunk(batch)
        y_BCHW = None
        for b, (kernel, bias_C) in enumerate(zip(kernels.chunk(batch), biases, strict=True)):
            y_1CHW = F.conv2d(x_BCHW[b : b + 1], kernel, bias_C, stride, padding, dilation, groups)
            if y_BCHW is None:
                y_BCHW = torch.empty_like(y_1CHW.expand(batch, -1, -1, -1), memory_format=layout)
            y_BCHW[b : b + 1] = y_1CHW
        assert y_BCHW is not None  # the batch is not empty
        return y_BCHW

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, kernels = ctx.saved_tensors
        batch = x_BCHW.shape[0]
        wanted = list(ctx.needs_input_grad[:3])
        grad_x = torch.empty_like(x_BCHW, memory_format=layout_of(x_BCHW)) if wanted[0] else None
        grad_kernels = torch.empty_like(kernels) if wanted[1] else None
        for b, kernel in enumerate(kernels.chunk(batch)):
            here = slice(b, b + 1)
            found = torch.ops.aten.convolution_backward(
                grad_y[here], x_BCHW[here], kernel, None, *ctx.geometry, ctx.groups, [*wanted[:2], False]
            )
            if grad_x is not None:
                grad_x[here] = found[0]
            if grad_kernels is not None:
                grad_kernels.view(batch, *kernel.shape)[b] = found[1]
        grad_bias = grad_y.sum((2, 3)).flatten() if wanted[2] else None
        return grad_x, grad_kernels, grad_bias, None, None, None, None
