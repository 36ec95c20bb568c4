"""SCSA: pixel weights from strips of several lengths, then channel weights from attention between the channels.

Paper: "SCSA: Exploring the Synergistic Effects Between Spatial and Channel Attention", Neurocomputing 2025.
Official source: github.com/HZAI-ZJNU/SCSA, mmpretrain/models/attentions/SCSA.py, read at commit
8c46866f12fc1abe6fa3d905c1f615e23c79865c. Licence: Apache-2.0. No weights are used.

Differences: what is left of the picture beside whole pooling windows is pooled, too, where the official code drops it
(and has nothing left of a picture smaller than one window).

Shape suffixes: B batch, C channels, L height or width, N pooled pixels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.parts.arguments import require_multiple, require_positive

SIZES = (3, 5, 7, 9)
"""Lengths of the strips, one for each quarter of the channels."""


class SCSA(nn.Module):
    """Weigh rows and columns by strips along them, then channels by how alike they are.

    Args:
        c1: Input channels, a multiple of 4 and of ``heads``; the output has as many.
        heads: Heads of the attention between channels.
        window: Side of the pooling window in pixels.

    Raises:
        ArgumentError: A value is below 1, or channels that 4 or ``heads`` does not divide.
    """

    def __init__(self, c1: int, heads: int = 8, window: int = 7) -> None:
        super().__init__()
        require_positive("SCSA", c1=c1, heads=heads, window=window)
        require_multiple("SCSA", "4", 4, c1=c1)
        require_multiple("SCSA", "heads", heads, c1=c1)
        self.heads, self.window, self.scale = heads, window, (c1 // heads) ** -0.5
        quarter = c1 // 4
        self.strips = nn.ModuleList(nn.Conv1d(quarter, quarter, k, padding=k // 2, groups=quarter) for k in SIZES)
        self.norm_h = nn.GroupNorm(4, c1)
        self.norm_w = nn.GroupNorm(4, c1)
        self.norm = nn.GroupNorm(1, c1)
        self.q = nn.Conv2d(c1, c1, 1, groups=c1, bias=False)
        self.k = nn.Conv2d(c1, c1, 1, groups=c1, bias=False)
        self.v = nn.Conv2d(c1, c1, 1, groups=c1, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the weighted input, shape unchanged."""
        rows_BCL = self.norm_h(self._along(x_BCHW.mean(3))).sigmoid()
        columns_BCL = self.norm_w(self._along(x_BCHW.mean(2))).sigmoid()
        weighed = x_BCHW * rows_BCL[..., None] * columns_BCL[:, :, None]
        pooled = self.norm(F.avg_pool2d(weighed, self.window, self.window, ceil_mode=True))
        query, key, value = (self._by_head(part(pooled)) for part in (self.q, self.k, self.v))
        alike = (query @ key.transpose(-2, -1) * self.scale).softmax(-1)
        factor_BC11 = (alike @ value).mean(-1).reshape(-1, x_BCHW.shape[1], 1, 1).sigmoid()
        y: Tensor = weighed * factor_BC11
        return y

    def _along(self, mean_BCL: Tensor) -> Tensor:
        return torch.cat([strip(part) for strip, part in zip(self.strips, mean_BCL.chunk(4, 1), strict=True)], 1)

    def _by_head(self, x_BCHW: Tensor) -> Tensor:
        """Shape (batch, heads, channels of a head, N)."""
        batch, channels = x_BCHW.shape[:2]
        return x_BCHW.reshape(batch, self.heads, channels // self.heads, -1)
