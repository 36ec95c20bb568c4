"""Pinwheel convolution: four strips that start at the pixel and run outwards, one to each side.

Paper: "Pinwheel-shaped Convolution and Scale-based Dynamic Loss for Infrared Small Target Detection", AAAI 2025.
Official source: github.com/JN-Yang/PConv-SDloss-Data, model/APConv.py, read at commit
a801f043c83f73aa9af9ab2f689e59ebef928fc4. Licence: MIT. No weights are used.

Differences: a size that the stride does not divide is padded with zeros first, so that the output has the size that a
convolution with padding gives. The official name, PConv, is FasterNet's partial convolution elsewhere.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.dynamic_conv import batch_may_vary
from detgraft.blocks.parts.arguments import require_multiple, require_positive
from detgraft.blocks.parts.conv import ConvNormAct


class PinwheelConv(nn.Module):
    """Convolve along four strips, two per axis with shared weights, and join them with a 2x2 convolution.

    Args:
        c1: Input channels.
        c2: Output channels, a multiple of 4.
        k: Length of the strips in pixels.
        s: Stride.

    Raises:
        ArgumentError: A value is below 1, or ``c2`` is no multiple of 4.
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 2) -> None:
        super().__init__()
        require_positive("PinwheelConv", c1=c1, c2=c2, k=k, s=s)
        require_multiple("PinwheelConv", "strips", 4, c2=c2)
        self.s = s
        # Left, right, up and down: what is padded, as torch orders it (left, right, top, bottom).
        self.sides = ((k, 0, 1, 0), (0, k, 0, 1), (0, 1, k, 0), (1, 0, 0, k))
        self.cw = ConvNormAct(c1, c2 // 4, (1, k), s, 0)
        self.ch = ConvNormAct(c1, c2 // 4, (k, 1), s, 0)
        self.cat = ConvNormAct(c2, c2, 2, 1, 0)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, ceil(height / s), ceil(width / s))."""
        right, bottom = -x_BCHW.shape[3] % self.s, -x_BCHW.shape[2] % self.s
        if batch_may_vary() or right or bottom:  # an exported graph may see other sizes than the example
            x_BCHW = F.pad(x_BCHW, (0, right, 0, bottom))
        strips = [
            (self.cw if number < 2 else self.ch)(F.pad(x_BCHW, padding)) for number, padding in enumerate(self.sides)
        ]
        y: Tensor = self.cat(torch.cat(strips, 1))
        return y

    def fuse(self) -> PinwheelConv:
        """Fold the batch norms into the convolutions in front of them, in place; idempotent."""
        for unit in (self.cw, self.ch, self.cat):
            unit.fuse()
        return self
