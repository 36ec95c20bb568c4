"""Dynamic snake convolution: kernels that crawl along thin structures, one for each axis, beside a plain convolution.

Paper: "Dynamic Snake Convolution based on Topological Geometric Constraints for Tubular Structure Segmentation", ICCV
2023.
Official source: github.com/YaoleiQi/DSCNet, DSCNet_2D_opensource/Code/DRIVE/S3_DSConv_pro.py (``DSConv_pro``), read at
commit d4534999124b985b896a201224217cf2ed2b82f1. Licence: MIT. No weights are used.
Two forms: ``SnakeStrip`` is the official convolution along one axis; ``DySnakeConv`` joins a plain convolution and one
strip per axis, as the official network does at each stage.

Differences: a stride; the convolution over the points of a strip is a 1x1 convolution over the same values; a picture
of one row or column gives numbers. As officially, half of the predicted offsets count for their norm only. In
``DySnakeConv`` the plain convolutions have a batch norm and SiLU, where the official network has a group norm.

Shape suffixes: B batch, C channels, T points of a strip, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_multiple, require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.parts.sampling import positions, sample_points
from detgraft.errors import ArgumentError


class SnakeStrip(nn.Module):
    """Convolve along one axis; each point of the kernel moves off it by at most one pixel more than the one before.

    Args:
        c1: Input channels.
        c2: Output channels, a multiple of 4.
        k: Points of the kernel, odd.
        s: Stride.
        along: ``rows`` for a strip that runs from left to right, ``columns`` for one from top to bottom.
        reach: Pixels that a point may move further than its neighbour.
    """

    def __init__(self, c1: int, c2: int, k: int = 9, s: int = 1, along: str = "rows", reach: float = 1.0) -> None:
        super().__init__()
        self.k, self.s, self.is_row, self.reach = k, s, along == "rows", reach
        self.offset_conv = nn.Conv2d(c1, 2 * k, 3, s, 1)
        self.gn_offset = nn.GroupNorm(k, 2 * k)
        self.conv = nn.Conv2d(c1 * k, c2, 1)
        self.gn = nn.GroupNorm(c2 // 4, c2)
        self.act = nn.ReLU()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, ceil(height / s), ceil(width / s))."""
        both_BTHW = self.gn_offset(self.offset_conv(x_BCHW)).float().tanh()
        step_BTHW = both_BTHW.chunk(2, 1)[0 if self.is_row else 1]
        middle = self.k // 2
        before = step_BTHW[:, :middle].flip(1).cumsum(1).flip(1)
        off_BTHW = torch.cat((before, 0 * step_BTHW[:, :1], step_BTHW[:, middle + 1 :].cumsum(1)), 1) * self.reach
        row_H1, column_W = positions(off_BTHW.shape[2], off_BTHW.shape[3], self.s, x_BCHW)
        along_T11 = torch.arange(self.k, device=x_BCHW.device).reshape(-1, 1, 1) - middle
        still = torch.zeros_like(off_BTHW) + along_T11
        row_off, column_off = (off_BTHW, still) if self.is_row else (still, off_BTHW)
        sampled_BCTHW = sample_points(x_BCHW, row_off + row_H1, column_off + column_W)
        y: Tensor = self.act(self.gn(self.conv(sampled_BCTHW.flatten(1, 2))))
        return y


class DySnakeConv(nn.Module):
    """A plain convolution and one snake strip per axis, joined by a 1x1 convolution.

    Args:
        c1: Input channels.
        c2: Output channels, a multiple of 4.
        k: Kernel size and points of a strip, odd.
        s: Stride.
        reach: Pixels that a point may move further than its neighbour.

    Raises:
        ArgumentError: A value is below 1, ``k`` is even, ``c2`` is no multiple of 4, or ``reach`` is negative.
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1, reach: float = 1.0) -> None:
        super().__init__()
        require_positive("DySnakeConv", c1=c1, c2=c2, k=k, s=s)
        require_multiple("DySnakeConv", "4", 4, c2=c2)
        if k % 2 == 0 or k < 3:
            raise ArgumentError(f"DySnakeConv: k must be odd and at least 3, found {k}")
        if not reach >= 0:
            raise ArgumentError(f"DySnakeConv: reach must be at least 0, found {reach!r}")
        self.plain = ConvNormAct(c1, c2, k, s)
        self.row = SnakeStrip(c1, c2, k, s, "rows", reach)
        self.column = SnakeStrip(c1, c2, k, s, "columns", reach)
        self.join = ConvNormAct(3 * c2, c2, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, ceil(height / s), ceil(width / s))."""
        y: Tensor = self.join(torch.cat((self.plain(x_BCHW), self.row(x_BCHW), self.column(x_BCHW)), 1))
        return y

    def fuse(self) -> DySnakeConv:
        """Fold the batch norms into the convolutions in front of them, in place; idempotent."""
        self.plain.fuse()
        self.join.fuse()
        return self
