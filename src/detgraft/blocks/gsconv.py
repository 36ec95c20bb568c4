"""GSConv: half the channels by a dense convolution, the other half by a cheap depthwise one, then mixed.

Paper: "Slim-neck by GSConv: a lightweight-design for real-time detector architectures", Journal of Real-Time Image
Processing 2024 (arXiv 2206.02424, 2022).
Official source: github.com/AlanLi1997/slim-neck-by-gsconv,
gsconv-yolov8_9_10_11/ultralytics/nn/modules/conv.py, read at commit 8357ef60d1991f99b9bec2f361cda0bb76ed611a.
Licence: GPL-3.0 for the repository, AGPL-3.0 stated in that file. No weights are used.

Differences: ``d`` dilates the dense convolution only; the official code also dilates the depthwise one without padding
it, which fails for any ``d`` above 1. The repository's older YOLOv5 form activates with Mish and shuffles in another
order (even channels first, then odd ones): the same block up to a fixed permutation of its output channels.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_multiple, require_padding, require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.errors import ArgumentError


class GSConv(nn.Module):
    """Convolve to half the channels, derive the other half by a 5x5 depthwise convolution, interleave both.

    Args:
        c1: Input channels.
        c2: Output channels, even.
        k: Kernel size of the dense convolution.
        s: Stride.
        p: Padding of the dense convolution; None keeps the size at stride 1.
        g: Groups of the dense convolution; must divide ``c1`` and ``c2 / 2``.
        d: Dilation of the dense convolution.
        act: Apply SiLU behind each norm.

    Raises:
        ArgumentError: ``c2`` is odd, a value is below 1, or channels that ``g`` does not divide.
    """

    def __init__(
        self, c1: int, c2: int, k: int = 1, s: int = 1, p: int | None = None, g: int = 1, d: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        require_positive("GSConv", c1=c1, c2=c2, k=k, s=s, g=g, d=d)
        require_padding("GSConv", p)
        if c2 % 2:
            raise ArgumentError(f"GSConv: c2 must be even, since each half is computed in its own way; found c2={c2}")
        half = c2 // 2
        require_multiple("GSConv", "g", g, c1=c1, half_of_c2=half)
        self.cv1 = ConvNormAct(c1, half, k, s, p, g, d, act)
        self.cv2 = ConvNormAct(half, half, 5, 1, None, half, 1, act)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, height / s, width / s)."""
        dense = self.cv1(x_BCHW)
        return torch.stack((dense, self.cv2(dense)), 2).flatten(1, 2)

    def fuse(self) -> GSConv:
        """Fold both batch norms into their convolutions, in place; idempotent."""
        self.cv1.fuse()
        self.cv2.fuse()
        return self
