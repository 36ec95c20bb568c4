"""DWR: dilation-wise residual, simple regions first, then depthwise kernels of three reaches over them.

Paper: "DWRSeg: Rethinking Efficient Acquisition of Multi-scale Contextual Information for Real-time Semantic
Segmentation" (arXiv 2212.01173). There is no official repository and no licence; what stands here is written from
the paper. No weights are used.

Differences: the paper's settings (half of the channels for the regions; the reaches 1, 3 and 5 in the ratio 2:1:1;
batch norm behind the dilated convolutions, no activation behind it); the reaches share the convolution of the regions.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_multiple, require_positive
from detgraft.blocks.parts.conv import ConvNormAct


class DWR(nn.Module):
    """3x3 convolution to half of the channels, depthwise dilated convolutions over them, 1x1, plus the input.

    Args:
        c1: Input channels, even; the output has as many.

    Raises:
        ArgumentError: ``c1`` is below 1 or odd.
    """

    def __init__(self, c1: int) -> None:
        super().__init__()
        require_positive("DWR", c1=c1)
        require_multiple("DWR", "2", 2, c1=c1)
        half = c1 // 2
        self.region = ConvNormAct(c1, half, 3, act=nn.ReLU())
        self.near = ConvNormAct(half, c1, 3, g=half, act=False)
        self.middle = ConvNormAct(half, half, 3, g=half, d=3, act=False)
        self.far = ConvNormAct(half, half, 3, g=half, d=5, act=False)
        self.point = nn.Conv2d(2 * c1, c1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        region = self.region(x_BCHW)
        y: Tensor = x_BCHW + self.point(torch.cat((self.near(region), self.middle(region), self.far(region)), 1))
        return y

    def fuse(self) -> DWR:
        """Fold the batch norms into the convolutions in front of them, in place; idempotent."""
        for unit in (self.region, self.near, self.middle, self.far):
            unit.fuse()
        return self
