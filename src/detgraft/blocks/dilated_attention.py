"""MSDA: multi-scale dilated attention, each group of heads looks at its 3x3 surroundings with another dilation.

Paper: "DilateFormer: Multi-Scale Dilated Transformer for Visual Recognition", IEEE Transactions on Multimedia 2023.
Official source: github.com/JIAOJIAYUASD/dilateformer, models/dilateformer.py (``MultiDilatelocalAttention``), read at
commit 99f85bb40a8d4395183a903e7604499dd5f24f8e. The repository states no licence; what stands here is written from the
paper's formulas. No weights are used.

Differences: four dilations by default instead of three, so that they divide usual channel numbers; the linear layer is
a 1x1 convolution over channels that come second; no dropout. As officially, pixels beyond the picture are zeros that
take part.

Shape suffixes: B batch, M heads of one dilation, C channels, K surroundings, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.parts.arguments import require_multiple, require_positive
from detgraft.errors import ArgumentError


class MSDA(nn.Module):
    """Attention of each pixel to its dilated surroundings.

    Args:
        c1: Input channels, a multiple of ``heads``; the output has as many.
        heads: Heads, a multiple of ``dilations``.
        k: Side of the surroundings in pixels, odd.
        dilations: Number of dilations: 1, 2, ... up to it.

    Raises:
        ArgumentError: A value is below 1, ``k`` is even, or numbers that do not divide each other.
    """

    def __init__(self, c1: int, heads: int = 8, k: int = 3, dilations: int = 4) -> None:
        super().__init__()
        require_positive("MSDA", c1=c1, heads=heads, k=k, dilations=dilations)
        require_multiple("MSDA", "heads", heads, c1=c1)
        require_multiple("MSDA", "dilations", dilations, heads=heads)
        if k % 2 == 0:
            raise ArgumentError(f"MSDA: k must be odd, found {k}")
        self.heads, self.k, self.dilations, self.scale = heads // dilations, k, dilations, (c1 // heads) ** -0.5
        self.qkv = nn.Conv2d(c1, 3 * c1, 1, bias=False)
        self.proj = nn.Conv2d(c1, c1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        query, key, value = (part.chunk(self.dilations, 1) for part in self.qkv(x_BCHW).chunk(3, 1))
        mixed = [
            self._attend(*parts, dilation) for dilation, parts in enumerate(zip(query, key, value, strict=True), 1)
        ]
        y: Tensor = self.proj(torch.cat(mixed, 1))
        return y

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, dilation: int) -> Tensor:
        query_BMC1HW = self._by_head(query[:, :, None])
        key_BMCKHW, value_BMCKHW = (self._surroundings(part, dilation) for part in (key, value))
        weights = ((query_BMC1HW * key_BMCKHW).sum(2, keepdim=True) * self.scale).softmax(3)
        mixed: Tensor = (weights * value_BMCKHW).sum(3).flatten(1, 2)
        return mixed

    def _surroundings(self, x_BCHW: Tensor, dilation: int) -> Tensor:
        border, (height, width) = dilation * (self.k // 2), x_BCHW.shape[2:]
        padded = F.pad(x_BCHW, [border] * 4)
        starts = [dilation * step for step in range(self.k)]
        shifted = [padded[:, :, row : row + height, left : left + width] for row in starts for left in starts]
        return self._by_head(torch.stack(shifted, 2))

    def _by_head(self, x_BCKHW: Tensor) -> Tensor:
        batch, _, count, height, width = x_BCKHW.shape
        return x_BCKHW.reshape(batch, self.heads, -1, count, height, width)
