"""Modulated deformable convolution (DCNv2) on torchvision's operator.

Paper: "Deformable ConvNets v2: More Deformable, Better Results", CVPR 2019.
Official source: github.com/open-mmlab/mmcv, mmcv/ops/modulated_deform_conv.py (``ModulatedDeformConv2dPack``) and its
CPU operator, read at commit a8073c74bf83d62ec36a103f835faa4837fb6585. Licence: Apache-2.0. No weights are used.
Two forms: ``DeformConv`` is the bare convolution; ``DeformConvBNAct`` has a batch norm and SiLU behind it, as the
other rows of a YOLO.

Differences: the operator is ``torchvision.ops.deform_conv2d``, not mmcv's; state-dict keys and layout are mmcv's. The
offsets and the mask start at zero, as officially, so that at first the block is a plain convolution times one half.
torchvision has no ONNX form of its operator, and ONNX itself has none before opset 19. In a traced or exported graph
the same formula is therefore written with ``grid_sample`` (opset 16), which needs no fixed batch size either.

Shape suffixes: B batch, C channels, H height, W width, T kernel positions, D deformable groups.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from detgraft.blocks.dynamic_conv import batch_may_vary
from detgraft.blocks.parts.arguments import require_multiple, require_padding, require_positive
from detgraft.blocks.parts.conv import activation, autopad
from detgraft.blocks.parts.fusing import fold_batch_norm, holds_weight


def modulated_conv(
    x_BCHW: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    s: int = 1,
    p: int = 0,
    d: int = 1,
    g: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """Convolve with each kernel position read at a given offset and weighed by a given mask.

    Args:
        x_BCHW: Input.
        offset: Offsets in pixels, ``(B, 2 * D * T, H', W')``; per position the row's comes first, then the column's.
        mask: Weights, ``(B, D * T, H', W')``.
        weight: Kernel, ``(c2, c1 / g, k, k)``.
        bias: Bias, ``(c2,)``, or None.
        s: Stride.
        p: Padding.
        d: Dilation.
        g: Groups.
        deform_groups: Channel groups with offsets and masks of their own.

    Returns:
        Shape ``(B, c2, H', W')``.
    """
    if batch_may_vary():
        return _by_grid_sample(x_BCHW, offset, mask, weight, bias, s, p, d, g, deform_groups)
    # The operator wants one dtype, which mixed precision does not give it, and it has no bfloat16.
    dtype = torch.promote_types(x_BCHW.dtype, weight.dtype)
    dtype = torch.float32 if dtype == torch.bfloat16 else dtype
    # torchvision 0.29 reads out of bounds at an offset that is not a number, and the process dies. The mask comes
    # from the same convolution and carries the NaN on.
    offset = offset.nan_to_num()
    x, shift, kernel, share = (tensor.to(dtype) for tensor in (x_BCHW, offset, weight, mask))
    y: Tensor = deform_conv2d(x, shift, kernel, None if bias is None else bias.to(dtype), s, p, d, share)
    return y.to(offset.dtype)


def _by_grid_sample(
    x_BCHW: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    s: int,
    p: int,
    d: int,
    g: int,
    groups: int,
) -> Tensor:
    in_height, in_width = x_BCHW.shape[2:]
    height, width = offset.shape[2:]
    k = weight.shape[2]
    taps, c1 = k * k, weight.shape[1] * g
    dtype = torch.promote_types(x_BCHW.dtype, torch.float32)
    tap_T11 = torch.arange(taps, device=x_BCHW.device).reshape(taps, 1, 1)
    tap_y_T11 = torch.div(tap_T11, k, rounding_mode="floor") * d - p
    tap_x_T11 = tap_T11 % k * d - p
    y_H1 = torch.arange(height, device=x_BCHW.device, dtype=dtype).reshape(height, 1) * s
    x_W = torch.arange(width, device=x_BCHW.device, dtype=dtype) * s

    # Per tap the offset's row comes first, then its column.
    offset_NT2HW = offset.to(dtype).reshape(-1, taps, 2, height, width)
    y_NTHW = offset_NT2HW[:, :, 0] + tap_y_T11 + y_H1
    x_NTHW = offset_NT2HW[:, :, 1] + tap_x_T11 + x_W
    grid = torch.stack(((2 * x_NTHW + 1) / in_width - 1, (2 * y_NTHW + 1) / in_height - 1), -1)

    grouped = x_BCHW.to(dtype).reshape(-1, c1 // groups, in_height, in_width)
    grid = grid.reshape(-1, taps * height, width, 2)
    sampled = F.grid_sample(grouped, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    sampled = sampled.reshape(-1, groups, c1 // groups, taps, height, width)
    weighed = sampled * mask.to(dtype).reshape(-1, groups, 1, taps, height, width)
    columns = weighed.reshape(-1, c1 * taps, height, width).to(x_BCHW.dtype)
    return F.conv2d(columns, weight.reshape(weight.shape[0], -1, 1, 1), bias, groups=g)


class DeformConv(nn.Module):
    """Convolution that reads each kernel position at a predicted offset and with a predicted weight.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size.
        s: Stride.
        p: Padding; None keeps the size at stride 1.
        g: Groups; must divide ``c1`` and ``c2``.
        d: Dilation.
        deform_groups: Channel groups with offsets and masks of their own; must divide ``c1``.
        bias: Add a bias.

    Raises:
        ArgumentError: A value is below 1, or channels that a number of groups does not divide.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 3,
        s: int = 1,
        p: int | None = None,
        g: int = 1,
        d: int = 1,
        deform_groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        require_positive("DeformConv", c1=c1, c2=c2, k=k, s=s, g=g, d=d, deform_groups=deform_groups)
        require_padding("DeformConv", p)
        require_multiple("DeformConv", "g", g, c1=c1, c2=c2)
        require_multiple("DeformConv", "deform_groups", deform_groups, c1=c1)
        self.k, self.s, self.p, self.g, self.d = k, s, autopad(k, p, d), g, d
        self.deform_groups = deform_groups
        bound = 1 / math.sqrt(c1 * k * k)
        self.weight = nn.Parameter(torch.empty(c2, c1 // g, k, k).uniform_(-bound, bound))
        self.bias: nn.Parameter | None
        self.register_parameter("bias", nn.Parameter(torch.zeros(c2)) if bias else None)
        self.conv_offset = nn.Conv2d(c1, 3 * deform_groups * k * k, k, s, self.p, d)
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, height / s, width / s)."""
        taps = self.deform_groups * self.k * self.k
        offset, mask = self.conv_offset(x_BCHW).split((2 * taps, taps), 1)
        mask = mask.sigmoid()
        return modulated_conv(
            x_BCHW, offset, mask, self.weight, self.bias, self.s, self.p, self.d, self.g, self.deform_groups
        )

    @property
    def _c1(self) -> int:
        return self.weight.shape[1] * self.g

    def extra_repr(self) -> str:
        """Show the convolution's sizes."""
        return f"{self._c1}, {self.weight.shape[0]}, k={self.k}, s={self.s}, p={self.p}, g={self.g}, d={self.d}"


class DeformConvBNAct(nn.Module):
    """Deformable convolution, batch norm, activation.

    Takes its arguments in the order of a Conv row, so that it can stand in for one.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size.
        s: Stride.
        p: Padding; None keeps the size at stride 1.
        g: Groups.
        d: Dilation.
        act: Apply SiLU behind the norm.
        deform_groups: See :class:`DeformConv`.

    Raises:
        ArgumentError: A value out of range, see :class:`DeformConv`.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 3,
        s: int = 1,
        p: int | None = None,
        g: int = 1,
        d: int = 1,
        act: bool = True,
        deform_groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = DeformConv(c1, c2, k, s, p, g, d, deform_groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(c2)
        self.act = activation(act)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, height / s, width / s)."""
        y: Tensor = self.act(self.bn(self.conv(x_BCHW)))
        return y

    @torch.no_grad()
    def fuse(self) -> DeformConvBNAct:
        """Fold the batch norm into the convolution, in place; idempotent."""
        if isinstance(self.bn, nn.BatchNorm2d) and holds_weight(self.conv):
            weight, bias = fold_batch_norm(self.conv.weight, self.bn)
            self.conv.weight.copy_(weight)
            self.conv.bias = nn.Parameter(bias, requires_grad=self.conv.weight.requires_grad)
            self.bn = nn.Identity()
        return self
