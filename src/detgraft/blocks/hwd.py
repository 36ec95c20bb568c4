"""HWD: halves the size by a Haar wavelet transform, whose four bands become channels.

Paper: "Haar wavelet downsampling: A simple but effective downsampling module for semantic segmentation", Pattern
Recognition 2023.
Official source: github.com/apple1986/HWD, HWD.py, read at commit 03944d36d6dcaac4f519ad5b39781dd30ed1a78a. The
repository states no licence; what stands here is written from the transform's formula. No weights are used.

Differences: the transform is four sums of shifted pixels, without a wavelet package. The convolution's bias is left
out, since the batch norm behind it takes any bias away again (loading official weights: subtract that bias from the
norm's running mean). An odd size is padded with zeros, as the official transform does.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.dynamic_conv import batch_may_vary
from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.errors import ArgumentError


class HWD(nn.Module):
    """Turn each square of 2x2 pixels into the four Haar coefficients, then mix the channels.

    Args:
        c1: Input channels.
        c2: Output channels.
        s: Stride; the transform has 2.

    Raises:
        ArgumentError: A value is below 1, or another stride is asked for.
    """

    def __init__(self, c1: int, c2: int, s: int = 2) -> None:
        super().__init__()
        require_positive("HWD", c1=c1, c2=c2, s=s)
        if s != 2:
            raise ArgumentError(f"HWD: a wavelet transform halves the size, so s must be 2, found {s}")
        self.conv = ConvNormAct(4 * c1, c2, 1, act=nn.ReLU())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, ceil(height / 2), ceil(width / 2))."""
        right, bottom = x_BCHW.shape[3] % 2, x_BCHW.shape[2] % 2
        if batch_may_vary() or right or bottom:  # an exported graph may see other sizes than the example
            x_BCHW = F.pad(x_BCHW, (0, right, 0, bottom))
        y: Tensor = self.conv(torch.cat(haar(x_BCHW), 1))
        return y

    def fuse(self) -> HWD:
        """Fold the batch norm into the convolution, in place; idempotent."""
        self.conv.fuse()
        return self


def haar(x_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the coefficients of the orthonormal Haar transform of 2x2 squares, each of half the height and width.

    Args:
        x_BCHW: A picture of even height and width.

    Returns:
        The mean (times 2) and the differences between rows, between columns and along the diagonals.
    """
    top, bottom = x_BCHW[..., ::2, :] / 2, x_BCHW[..., 1::2, :] / 2
    total, rows = top + bottom, top - bottom
    left, right = slice(None, None, 2), slice(1, None, 2)
    return (
        total[..., left] + total[..., right],
        rows[..., left] + rows[..., right],
        total[..., left] - total[..., right],
        rows[..., left] - rows[..., right],
    )
