"""ConvNeXt V2's block, alone: depthwise 7x7, layer norm, two 1x1 convolutions around GELU and response norm.

Paper: "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders" (arXiv 2301.00808).
Official source: github.com/facebookresearch/ConvNeXt-V2, models/convnextv2.py (``Block``), read at commit
2553895753323c6fe0b2bf390683f5ea358a42b9. Licence: MIT. No weights are used.

Differences: no drop path; the linear layers are 1x1 convolutions.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.norms import ChannelNorm
from detgraft.blocks.parts.response_norm import ResponseNorm


class ConvNeXtV2Block(nn.Module):
    """Depthwise 7x7, layer norm, 1x1, GELU, response norm, 1x1, plus the input.

    Args:
        c1: Input channels; the output has as many.
        mlp_ratio: Hidden channels as a multiple of ``c1``.

    Raises:
        ArgumentError: A value is below 1.
    """

    def __init__(self, c1: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        require_positive("ConvNeXtV2Block", c1=c1, mlp_ratio=mlp_ratio)
        self.dwconv = nn.Conv2d(c1, c1, 7, padding=3, groups=c1)
        self.norm = ChannelNorm(c1)
        self.pwconv1 = nn.Conv2d(c1, c1 * mlp_ratio, 1)
        self.act = nn.GELU()
        self.grn = ResponseNorm(c1 * mlp_ratio)
        self.pwconv2 = nn.Conv2d(c1 * mlp_ratio, c1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        hidden = self.grn(self.act(self.pwconv1(self.norm(self.dwconv(x_BCHW)))))
        y: Tensor = x_BCHW + self.pwconv2(hidden)
        return y
