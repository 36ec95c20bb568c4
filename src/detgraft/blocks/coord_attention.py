"""Coordinate attention: channel attention that keeps the position along each axis.

Paper: "Coordinate Attention for Efficient Mobile Network Design", CVPR 2021.
Official source: github.com/houqb/CoordAttention, coordatt.py, read at commit
7619bea9acbe260b3793833cc78cef3f124c8112. Licence: MIT. No weights are used.

Differences: the first convolution has no bias, since the batch norm behind it takes any bias away again (loading
official weights: subtract that bias from the norm's running mean). Strip pooling is a plain mean, which exports to
ONNX for any size.

Shape suffixes: B batch, C channels, M hidden channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct


class CoordAtt(nn.Module):
    """Weigh each pixel by one factor for its row and one for its column, per channel.

    Args:
        c1: Input channels; the output has as many.
        reduction: Ratio of channels to hidden channels; at least 8 hidden channels are kept.

    Raises:
        ArgumentError: A value is below 1.
    """

    def __init__(self, c1: int, reduction: int = 32) -> None:
        super().__init__()
        require_positive("CoordAtt", c1=c1, reduction=reduction)
        hidden = max(8, c1 // reduction)
        self.squeeze = ConvNormAct(c1, hidden, 1, act=nn.Hardswish())
        self.conv_h = nn.Conv2d(hidden, c1, 1)
        self.conv_w = nn.Conv2d(hidden, c1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the weighted input, shape unchanged."""
        rows_BCH1 = x_BCHW.mean(3, keepdim=True)
        columns_BCW1 = x_BCHW.mean(2, keepdim=True).transpose(2, 3)
        strips = self.squeeze(torch.cat((rows_BCH1, columns_BCW1), 2))
        rows_BMH1, columns_BMW1 = strips.split((x_BCHW.shape[2], x_BCHW.shape[3]), 2)
        weight_BCH1 = self.conv_h(rows_BMH1).sigmoid()
        weight_BC1W = self.conv_w(columns_BMW1.transpose(2, 3)).sigmoid()
        y: Tensor = x_BCHW * weight_BC1W * weight_BCH1
        return y

    def fuse(self) -> CoordAtt:
        """Fold the batch norm into the convolution in front of it, in place; idempotent."""
        self.squeeze.fuse()
        return self
