"""iRMB: inverted residual mobile block, attention over pixels spread across the picture, then a depthwise convolution.

Paper: "Rethinking Mobile Block for Efficient Attention-based Models", ICCV 2023 (EMO).
Official source: github.com/zhangzjn/EMO, model/emo.py (``iRMB``), read at commit
27d9b40fea9c2a12a2fe7acc51032184852a99d8. The repository states no licence at its root; what stands here is written from
the paper's formulas. No weights are used.

Differences: no dropout and no drop path; without a number the heads have 32 channels, or as many as also divide ``c1``.
Once folded, the norm in front is a depthwise 1x1 convolution: what is padded to whole windows comes behind it.

Shape suffixes: B batch, N pixels of a window, C channels, H height, W width.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.dynamic_conv import batch_may_vary
from detgraft.blocks.parts.arguments import require_multiple, require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.parts.norms import as_convolution
from detgraft.errors import ArgumentError


class IRMB(nn.Module):
    """Norm, attention within windows of spread pixels, depthwise convolution, projection, plus the input.

    Args:
        c1: Input channels; the output has as many.
        expand: Channels between the projections as a multiple of ``c1``.
        k: Kernel size of the depthwise convolution, odd.
        window: Side of a window in pixels.
        head: Channels of a head; must divide ``c1``. None takes the largest up to 32 that divides both.

    Raises:
        ArgumentError: A value is below 1, ``k`` is even, or ``head`` does not divide ``c1``.
    """

    def __init__(self, c1: int, expand: int = 2, k: int = 3, window: int = 7, head: int | None = None) -> None:
        super().__init__()
        require_positive("iRMB", c1=c1, expand=expand, k=k, window=window, head=head)
        head = head or math.gcd(c1, 32)
        require_multiple("iRMB", "head", head, c1=c1)
        if k % 2 == 0:
            raise ArgumentError(f"iRMB: k must be odd, found {k}")
        self.window, self.heads, self.scale = window, c1 // head, head**-0.5
        self.norm: nn.Module = nn.BatchNorm2d(c1)
        self.qk = nn.Conv2d(c1, 2 * c1, 1, bias=False)
        self.v = nn.Conv2d(c1, c1 * expand, 1, bias=False)
        self.act = nn.ReLU()
        self.local = ConvNormAct(c1 * expand, c1 * expand, k, g=c1 * expand)
        self.proj = nn.Conv2d(c1 * expand, c1, 1, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        normed = self.norm(x_BCHW)
        height, width = x_BCHW.shape[2:]
        right, bottom = -width % self.window, -height % self.window
        if batch_may_vary() or right or bottom:  # an exported graph may see other sizes than the example
            normed = F.pad(normed, (0, right, 0, bottom))
        query, key = (self._by_window(part) for part in self.qk(normed).chunk(2, 1))
        value = self._by_window(self.act(self.v(normed)))
        weights = (query @ key.transpose(-2, -1) * self.scale).softmax(-1)
        mixed = self._by_picture(weights @ value, (height + bottom) // self.window, (width + right) // self.window)
        mixed = mixed[:, :, :height, :width]
        y: Tensor = x_BCHW + self.proj(mixed + self.local(mixed))
        return y

    def _by_window(self, x_BCHW: Tensor) -> Tensor:
        """Pixels as far apart as there are windows along each axis form one: (B, rows, columns, heads, N, channels)."""
        side, (batch, _, height, width) = self.window, x_BCHW.shape
        rows, columns = height // side, width // side
        split = x_BCHW.reshape(batch, self.heads, -1, side, rows, side, columns)
        return split.permute(0, 4, 6, 1, 3, 5, 2).reshape(batch, rows, columns, self.heads, side * side, -1)

    def _by_picture(self, windows: Tensor, rows: int, columns: int) -> Tensor:
        side, batch = self.window, windows.shape[0]
        split = windows.reshape(batch, rows, columns, self.heads, side, side, -1).permute(0, 3, 6, 4, 1, 5, 2)
        return split.reshape(batch, -1, rows * side, columns * side)

    def fuse(self) -> IRMB:
        """Fold the batch norm of the depthwise convolution, and make the one in front a convolution; idempotent."""
        self.local.fuse()
        if isinstance(self.norm, nn.BatchNorm2d):
            self.norm = as_convolution(self.norm)
        return self
