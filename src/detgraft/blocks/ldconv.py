"""LDConv (AKConv before): a convolution over any number of sampled points, whose places are learned.

Paper: "LDConv: Linear deformable convolution for improving convolutional neural networks", Image and Vision Computing
2024, once "AKConv: Convolutional Kernel with Arbitrary Sampled Shapes and Arbitrary Number of Parameters".
Official source: github.com/CV-ZhangXin/LDConv, model.py, read at commit cbccb6b7469f604c91c0b85ac19b40da26321ee9. The
repository states no licence; what stands here is written from the paper's formulas. No weights are used.

Differences: beyond the picture a point reads the nearest pixel. The official code reads it twice there and adds both,
so that a point that crosses the border doubles its value; inside the picture the numbers are equal. The convolution
over the points is a 1x1 convolution over the same values. Its batch norm has no convolution bias before it.

Shape suffixes: B batch, C channels, T points, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.parts.sampling import positions, sample_points


class LDConv(nn.Module):
    """Read ``points`` places around each pixel at predicted offsets and join them by one learned matrix.

    Args:
        c1: Input channels.
        c2: Output channels.
        points: Points per pixel; they start as a grid that is as square as their number allows.
        s: Stride.
        act: Apply SiLU behind the norm.

    Raises:
        ArgumentError: A value is below 1.
    """

    def __init__(self, c1: int, c2: int, points: int = 6, s: int = 1, act: bool = True) -> None:
        super().__init__()
        require_positive("LDConv", c1=c1, c2=c2, points=points, s=s)
        self.points, self.s = points, s
        self.offset = nn.Conv2d(c1, 2 * points, 3, s, 1)
        nn.init.zeros_(self.offset.weight)
        self.conv = ConvNormAct(c1 * points, c2, 1, act=act)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, ceil(height / s), ceil(width / s))."""
        row_BTHW, column_BTHW = self.offset(x_BCHW).float().chunk(2, 1)
        row_H1, column_W = positions(row_BTHW.shape[2], row_BTHW.shape[3], self.s, x_BCHW)
        side = round(self.points**0.5)
        point_T11 = torch.arange(self.points, device=x_BCHW.device).reshape(-1, 1, 1)
        row_BTHW = row_BTHW + row_H1 + torch.div(point_T11, side, rounding_mode="floor")
        sampled_BCTHW = sample_points(x_BCHW, row_BTHW, column_BTHW + column_W + point_T11 % side)
        y: Tensor = self.conv(sampled_BCTHW.flatten(1, 2))
        return y

    def fuse(self) -> LDConv:
        """Fold the batch norm into the convolution in front of it, in place; idempotent."""
        self.conv.fuse()
        return self
