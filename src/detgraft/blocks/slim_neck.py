"""VoVGSCSP: a cross stage partial block of GSConv bottlenecks, the other half of the slim neck.

Paper: "Slim-neck by GSConv: a lightweight-design for real-time detector architectures", Journal of Real-Time Image
Processing 2024 (arXiv 2206.02424; figures 5 and 6).
Official source: github.com/AlanLi1997/slim-neck-by-gsconv, gsconv-yolov5/models/common.py, run for its numbers at
commit 8357ef60d1991f99b9bec2f361cda0bb76ed611a. Licence: GPL-3.0, of which no line is used. No weights are used.

Differences: the official class also holds a 3x3 convolution ``res`` that its forward pass never calls; it is left out,
since no gradient would reach it. SiLU instead of Mish, and GSConv's own order of channels, see
:mod:`detgraft.blocks.gsconv`. ``shortcut``, which rows of public YAMLs write, has no effect there and none here.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.gsconv import GSConv
from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.parts.joining import fold_norms
from detgraft.errors import ArgumentError


class GSBottleneck(nn.Module):
    """A 1x1 and a 3x3 GSConv beside a 1x1 convolution as shortcut.

    Args:
        c1: Input channels.
        c2: Output channels, even.
        e: Hidden channels as a share of ``c2``; must give an even number.

    Raises:
        ArgumentError: Odd channels, or a value below 1.
    """

    def __init__(self, c1: int, c2: int, e: float = 0.5) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.light = nn.Sequential(GSConv(c1, hidden, 1), GSConv(hidden, c2, 3, act=False))
        self.shortcut = ConvNormAct(c1, c2, act=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, c1, H, W)`` to ``(B, c2, H, W)``."""
        y: Tensor = self.light(x_BCHW) + self.shortcut(x_BCHW)
        return y


class VoVGSCSP(nn.Module):
    """Two branches of ``c2 * e`` channels, one of them through GSConv bottlenecks, joined by a 1x1 convolution.

    Args:
        c1: Input channels.
        c2: Output channels.
        n: Bottlenecks in the chain.
        shortcut: Without effect, see above; every bottleneck has its shortcut.
        e: Hidden channels as a share of ``c2``; must give an even number.

    Raises:
        ArgumentError: Odd hidden channels, or a value below 1.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, e: float = 0.5) -> None:
        super().__init__()
        del shortcut
        require_positive("VoVGSCSP", c1=c1, c2=c2, n=n)
        hidden = int(c2 * e)
        if hidden < 2 or hidden % 2:
            raise ArgumentError(f"VoVGSCSP: c2 * e must be an even number of channels, found {c2} * {e:g} = {hidden}")
        self.cv1 = ConvNormAct(c1, hidden)
        self.cv2 = ConvNormAct(c1, hidden)
        self.gsb = nn.Sequential(*(GSBottleneck(hidden, hidden, 1.0) for _ in range(n)))
        self.cv3 = ConvNormAct(2 * hidden, c2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, c1, H, W)`` to ``(B, c2, H, W)``."""
        y: Tensor = self.cv3(torch.cat((self.cv2(x_BCHW), self.gsb(self.cv1(x_BCHW))), 1))
        return y

    def fuse(self) -> VoVGSCSP:
        """Fold the batch norms, in place; idempotent."""
        fold_norms(self)
        return self
