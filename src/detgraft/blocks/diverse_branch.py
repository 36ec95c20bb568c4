"""Diverse branch block: four branches in training, one convolution after ``fuse()``.

Paper: "Diverse Branch Block: Building a Convolution as an Inception-like Unit", CVPR 2021.
Official source: github.com/DingXiaoH/DiverseBranchBlock, diversebranchblock.py, read at commit
8d2b16b6aee45a33236b2d11685be6857f9ba929. Licence: Apache-2.0. No weights are used.

Differences: SiLU behind the sum (officially what the caller gives). The 1x1 convolution that is officially an identity
plus a learned matrix adds its input instead. A depthwise block has all four branches, too.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.parts.arguments import require_multiple, require_positive
from detgraft.blocks.parts.conv import ConvNormAct, activation
from detgraft.blocks.parts.fusing import batch_norm_affine, fold_batch_norm, holds_weight
from detgraft.errors import ArgumentError


class NormAndPad(nn.Module):
    """A batch norm, then a border of the value that the norm gives for zero.

    With it a convolution behind the norm sees what it would see, were the picture padded with zeros before the norm.

    Args:
        channels: Channels.
        border: Width of the border in pixels.
    """

    def __init__(self, channels: int, border: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.border = border

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, channels, height + 2 * border, width + 2 * border)."""
        y: Tensor = self.bn(x_BCHW)
        if not self.border:
            return y
        value_C11 = batch_norm_affine(self.bn)[1].reshape(-1, 1, 1).to(y.dtype)
        return F.pad(y - value_C11, [self.border] * 4) + value_C11


class Branches(nn.Module):
    """What is beside the k x k convolution: a 1x1 convolution, and a mean and a k x k convolution behind one.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size, odd.
        s: Stride.
        g: Groups.
    """

    def __init__(self, c1: int, c2: int, k: int, s: int, g: int) -> None:
        super().__init__()
        self.k, self.s, self.g = k, s, g
        self.point = ConvNormAct(c1, c2, 1, s, g=g, act=False)
        self.mean_conv = nn.Conv2d(c1, c2, 1, groups=g, bias=False)
        self.mean_pad = NormAndPad(c2, k // 2)
        self.mean_bn = nn.BatchNorm2d(c2)
        self.deep_residual = nn.Conv2d(c1, c1, 1, groups=g, bias=False)
        nn.init.zeros_(self.deep_residual.weight)
        self.deep_pad = NormAndPad(c1, k // 2)
        self.deep = ConvNormAct(c1, c2, k, s, 0, g=g, act=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the sum of the branches, shape (batch, c2, ceil(height / s), ceil(width / s))."""
        mean = F.avg_pool2d(self.mean_pad(self.mean_conv(x_BCHW)), self.k, self.s)
        deep = self.deep(self.deep_pad(x_BCHW + self.deep_residual(x_BCHW)))
        y: Tensor = self.point(x_BCHW) + self.mean_bn(mean) + deep
        return y

    def merged(self) -> tuple[Tensor, Tensor]:
        """Return the kernel and the bias of the k x k convolution that all branches are together."""
        point, deep = (_folded(unit.conv.weight, unit.bn) for unit in (self.point, self.deep))
        identity = torch.eye(self.deep_residual.in_channels // self.g, device=point[0].device, dtype=point[0].dtype)
        residual = self.deep_residual.weight + identity.repeat(self.g, 1)[..., None, None]
        deep = _chain(_folded(residual, self.deep_pad.bn), deep, self.g)
        scale_C, shift_C = batch_norm_affine(self.mean_bn)
        mean = _folded(self.mean_conv.weight, self.mean_pad.bn)
        spread = (mean[0] * (scale_C / self.k**2)[:, None, None, None]).expand(-1, -1, self.k, self.k)
        weight = F.pad(point[0], [self.k // 2] * 4) + deep[0] + spread
        return weight, point[1] + deep[1] + mean[1] * scale_C + shift_C


class DiverseBranchConv(nn.Module):
    """Sum of a k x k convolution, a 1x1 convolution, and a mean and a k x k convolution behind one, with batch norms.

    Takes its arguments in the order of a Conv row, so that it can stand in for one.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size, odd.
        s: Stride.
        p: Padding; only what keeps the size at stride 1 (None or ``k // 2``).
        g: Groups.
        act: Apply SiLU behind the sum.

    Raises:
        ArgumentError: A value is below 1, ``k`` is even, another padding, or groups that do not divide the channels.
    """

    def __init__(
        self, c1: int, c2: int, k: int = 3, s: int = 1, p: int | None = None, g: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        require_positive("DiverseBranchConv", c1=c1, c2=c2, k=k, s=s, g=g)
        require_multiple("DiverseBranchConv", "g", g, c1=c1, c2=c2)
        if k % 2 == 0:
            raise ArgumentError(f"DiverseBranchConv: k must be odd, found {k}")
        if p not in (None, k // 2):
            raise ArgumentError(f"DiverseBranchConv: p must be None or {k // 2} for k={k}, found {p!r}")
        self.origin = ConvNormAct(c1, c2, k, s, g=g, act=False)
        self.branches: Branches | None = Branches(c1, c2, k, s, g)
        self.act = activation(act)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, ceil(height / s), ceil(width / s))."""
        y: Tensor = self.origin(x_BCHW)
        if self.branches is not None:
            y = y + self.branches(x_BCHW)
        activated: Tensor = self.act(y)
        return activated

    @torch.no_grad()
    def fuse(self) -> DiverseBranchConv:
        """Turn all branches into the one convolution ``origin.conv``, in place; idempotent."""
        conv = self.origin.conv
        if self.branches is None or not holds_weight(conv):
            return self
        weight, bias = self.branches.merged()
        self.origin.fuse()
        assert conv.bias is not None
        conv.weight.add_(weight.to(conv.weight.dtype))
        conv.bias.add_(bias.to(conv.bias.dtype))
        self.branches = None
        return self


def _folded(weight: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(norm, nn.BatchNorm2d)
    return fold_batch_norm(weight, norm)


def _chain(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], groups: int) -> tuple[Tensor, Tensor]:
    """A 1x1 and a k x k convolution, one behind the other, as one k x k convolution."""
    inner, outer = first[0].chunk(groups), second[0].chunk(groups)
    weight = torch.cat([F.conv2d(b, a.transpose(0, 1)) for a, b in zip(inner, outer, strict=True)])
    shifts = first[1].chunk(groups)
    bias = torch.cat([(b * a[:, None, None]).sum((1, 2, 3)) for a, b in zip(shifts, outer, strict=True)])
    return weight, bias + second[1]
