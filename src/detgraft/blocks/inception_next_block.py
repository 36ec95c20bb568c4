"""InceptionNeXt's block: a large depthwise kernel taken apart into a square, two strips and what passes unchanged.

Paper: "InceptionNeXt: When Inception Meets ConvNeXt", CVPR 2024.
Official source: github.com/sail-sg/inceptionnext, models/inceptionnext.py (``MetaNeXtBlock``), read at commit
3f9769c6b3fcf903d1dc2f436eddc6963cacb535. Licence: Apache-2.0. No weights are used.

Differences: no drop path and no dropout; at least one channel goes through each of the three kernels.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.fusing import holds_weight
from detgraft.blocks.parts.norms import fold_in_front
from detgraft.errors import ArgumentError


class InceptionDepthwise(nn.Module):
    """Convolve one eighth of the channels each by a square, a horizontal and a vertical strip; the others pass.

    Args:
        c1: Input channels, at least 4; the output has as many.
        square: Side of the square kernel, odd.
        band: Length of the strips, odd.
        share: Part of the channels that each kernel takes.
    """

    def __init__(self, c1: int, square: int = 3, band: int = 11, share: float = 0.125) -> None:
        super().__init__()
        part = max(1, int(c1 * share))
        self.parts = [c1 - 3 * part, part, part, part]
        self.dwconv_hw = nn.Conv2d(part, part, square, padding=square // 2, groups=part)
        self.dwconv_w = nn.Conv2d(part, part, (1, band), padding=(0, band // 2), groups=part)
        self.dwconv_h = nn.Conv2d(part, part, (band, 1), padding=(band // 2, 0), groups=part)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        same, square, wide, high = torch.split(x_BCHW, self.parts, 1)
        return torch.cat((same, self.dwconv_hw(square), self.dwconv_w(wide), self.dwconv_h(high)), 1)


class InceptionNeXtBlock(nn.Module):
    """Inception depthwise convolution, batch norm, two 1x1 convolutions around GELU, layer scale, plus the input.

    Args:
        c1: Input channels, at least 4; the output has as many.
        mlp_ratio: Hidden channels as a multiple of ``c1``.
        band: Length of the strips, odd.
        scale: Value at which the layer scale starts.

    Raises:
        ArgumentError: A value is below 1, too few channels, or ``band`` is even.
    """

    def __init__(self, c1: int, mlp_ratio: int = 4, band: int = 11, scale: float = 1e-6) -> None:
        super().__init__()
        require_positive("InceptionNeXtBlock", c1=c1, mlp_ratio=mlp_ratio, band=band)
        if c1 < 4:
            raise ArgumentError(f"InceptionNeXtBlock: c1 must be at least 4, found {c1}")
        if band % 2 == 0:
            raise ArgumentError(f"InceptionNeXtBlock: band must be odd, found {band}")
        self.token_mixer = InceptionDepthwise(c1, band=band)
        self.norm: nn.Module = nn.BatchNorm2d(c1)
        self.fc1 = nn.Conv2d(c1, c1 * mlp_ratio, 1)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(c1 * mlp_ratio, c1, 1)
        self.gamma = nn.Parameter(torch.full((c1,), scale))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        mixed = self.fc2(self.act(self.fc1(self.norm(self.token_mixer(x_BCHW)))))
        y: Tensor = x_BCHW + mixed * self.gamma[:, None, None]
        return y

    def fuse(self) -> InceptionNeXtBlock:
        """Fold the batch norm into the 1x1 convolution behind it, in place; idempotent."""
        if isinstance(self.norm, nn.BatchNorm2d) and holds_weight(self.fc1):
            fold_in_front(self.norm, self.fc1)
            self.norm = nn.Identity()
        return self
