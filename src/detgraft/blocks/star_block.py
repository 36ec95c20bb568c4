"""StarNet's block: two projections multiplied with each other between two depthwise convolutions.

Paper: "Rewrite the Stars", CVPR 2024.
Official source: github.com/ma-xu/Rewrite-the-Stars, imagenet/starnet.py (``Block``), read at commit
c999eb50840a44f9f1d92e8f7d2c22cd645a6d5e. Licence: Apache-2.0. No weights are used.

Differences: no drop path (officially none by default); a convolution in front of a batch norm has no bias, since the
norm takes any bias away again (loading official weights: subtract that bias from the norm's running mean).

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct


class StarBlock(nn.Module):
    """Depthwise 7x7, two 1x1 convolutions multiplied, 1x1, depthwise 7x7, plus the input.

    Args:
        c1: Input channels; the output has as many.
        mlp_ratio: Hidden channels as a multiple of ``c1``.

    Raises:
        ArgumentError: A value is below 1.
    """

    def __init__(self, c1: int, mlp_ratio: int = 3) -> None:
        super().__init__()
        require_positive("StarBlock", c1=c1, mlp_ratio=mlp_ratio)
        hidden = c1 * mlp_ratio
        self.dwconv = ConvNormAct(c1, c1, 7, g=c1, act=False)
        self.f1 = nn.Conv2d(c1, hidden, 1)
        self.f2 = nn.Conv2d(c1, hidden, 1)
        self.act = nn.ReLU6()
        self.g = ConvNormAct(hidden, c1, 1, act=False)
        self.dwconv2 = nn.Conv2d(c1, c1, 7, padding=3, groups=c1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        seen = self.dwconv(x_BCHW)
        y: Tensor = x_BCHW + self.dwconv2(self.g(self.act(self.f1(seen)) * self.f2(seen)))
        return y

    def fuse(self) -> StarBlock:
        """Fold the batch norms into the convolutions in front of them, in place; idempotent."""
        self.dwconv.fuse()
        self.g.fuse()
        return self
