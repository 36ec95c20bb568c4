"""LSK: large selective kernel, each pixel picks between a near and a far view.

Paper: "Large Selective Kernel Network for Remote Sensing Object Detection", ICCV 2023.
Official source: github.com/zcablii/LSKNet, mmrotate/models/backbones/lsknet.py (``LSKblock``), read at commit
cbe06cabcb0be0dd94ee48b8ffcd12a9f95c85ad. Licence: CC-BY-NC-4.0, of which no line is used: what stands here is written
from the paper's formulas. No weights are used.

Differences: none in the numbers.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_multiple, require_positive


class LSKBlock(nn.Module):
    """Weigh the input by a mix of a 5x5 and, behind it, a dilated 7x7 depthwise view; the mix differs by pixel.

    Args:
        c1: Input channels, even; the output has as many.

    Raises:
        ArgumentError: ``c1`` is below 1 or odd.
    """

    def __init__(self, c1: int) -> None:
        super().__init__()
        require_positive("LSKBlock", c1=c1)
        require_multiple("LSKBlock", "2", 2, c1=c1)
        self.conv0 = nn.Conv2d(c1, c1, 5, padding=2, groups=c1)
        self.conv_spatial = nn.Conv2d(c1, c1, 7, padding=9, dilation=3, groups=c1)
        self.conv1 = nn.Conv2d(c1, c1 // 2, 1)
        self.conv2 = nn.Conv2d(c1, c1 // 2, 1)
        self.conv_squeeze = nn.Conv2d(2, 2, 7, padding=3)
        self.conv = nn.Conv2d(c1 // 2, c1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the weighted input, shape unchanged."""
        near = self.conv0(x_BCHW)
        near, far = self.conv1(near), self.conv2(self.conv_spatial(near))
        both = torch.cat((near, far), 1)
        pooled = torch.cat((both.mean(1, keepdim=True), both.amax(1, keepdim=True)), 1)
        for_near, for_far = self.conv_squeeze(pooled).sigmoid().chunk(2, 1)
        y: Tensor = x_BCHW * self.conv(near * for_near + far * for_far)
        return y
