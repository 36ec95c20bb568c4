"""EUCB: efficient up-convolution block, nearest upsampling with a depthwise and a 1x1 convolution behind it.

Paper: "EMCAD: Efficient Multi-scale Convolutional Attention Decoding for Medical Image Segmentation", CVPR 2024.
Official source: github.com/SLDGroup/EMCAD. Its licence is for research only; what stands here is an own form, written
from the paper. No weights are used.

Differences: the channels stay, since an upsampling in a detector keeps them; the factor is an argument (the paper: 2).

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct


class EUCB(nn.Module):
    """Repeat each pixel, smooth by a depthwise 3x3 convolution with batch norm and ReLU, mix the channels.

    Args:
        c1: Input channels; the output has as many.
        scale: Factor of the size.

    Raises:
        ArgumentError: A value is below 1.
    """

    def __init__(self, c1: int, scale: int = 2) -> None:
        super().__init__()
        require_positive("EUCB", c1=c1, scale=scale)
        self.scale = scale
        self.smooth = ConvNormAct(c1, c1, 3, g=c1, act=nn.ReLU())
        self.mix = nn.Conv2d(c1, c1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, scale * height, scale * width)."""
        y: Tensor = self.mix(self.smooth(F.interpolate(x_BCHW, scale_factor=float(self.scale), mode="nearest")))
        return y

    def fuse(self) -> EUCB:
        """Fold the batch norm into the depthwise convolution, in place; idempotent."""
        self.smooth.fuse()
        return self
