"""FasterNet's block (partial convolution, then two 1x1 convolutions) and a C3k2 made of such blocks.

Paper: "Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks", CVPR 2023.
Official source: github.com/JierunChen/FasterNet, models/fasternet.py (``Partial_conv3``, ``MLPBlock``), read at commit
e8fba4465ae912359c9f661a72b14e39347e4954. Licence: MIT, stated in that file. No weights are used. The outer structure
of ``C3k2_Faster`` is that of Ultralytics' C3k2 (AGPL-3.0), with the same names for the layers around the blocks.

Differences: ``FasterBlock`` equals the official block with ReLU and without layer scale and drop path, which are the
official defaults. Added for the C3k2 form: groups in the partial convolution and a residual that can be left out. A
partial convolution over fewer channels than its divisor keeps one channel. Own forward without in-place slicing.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_multiple, require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.parts.fusing import fuse_tree
from detgraft.errors import ArgumentError


class PConv(nn.Module):
    """3x3 convolution over the first ``c1 // n_div`` channels; the others pass unchanged.

    Args:
        c1: Input channels; the output has as many.
        n_div: Which part of the channels is convolved: one in ``n_div``, at least one channel.
        g: Groups of the convolution; must divide the convolved channels.

    Raises:
        ArgumentError: A value is below 1, or ``g`` does not divide the convolved channels.
    """

    def __init__(self, c1: int, n_div: int = 4, g: int = 1) -> None:
        super().__init__()
        require_positive("PConv", c1=c1, n_div=n_div, g=g)
        touched = max(c1 // n_div, 1)
        require_multiple("PConv", "g", g, convolved_channels=touched)
        self.touched = touched
        self.conv = nn.Conv2d(touched, touched, 3, padding=1, groups=g, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the partly convolved input, shape unchanged."""
        return torch.cat((self.conv(x_BCHW[:, : self.touched]), x_BCHW[:, self.touched :]), 1)


class FasterBlock(nn.Module):
    """Partial convolution, 1x1 convolution, batch norm, ReLU, 1x1 convolution, plus the input.

    Args:
        c1: Input channels; the output has as many.
        n_div: See :class:`PConv`.
        mlp_ratio: Hidden channels of the 1x1 convolutions as a multiple of ``c1``.
        g: Groups of the partial convolution.
        shortcut: Add the input.

    Raises:
        ArgumentError: A value out of range, see :class:`PConv`, or no hidden channel left.
    """

    def __init__(self, c1: int, n_div: int = 4, mlp_ratio: float = 2.0, g: int = 1, shortcut: bool = True) -> None:
        super().__init__()
        self.spatial_mixing = PConv(c1, n_div, g)
        hidden = int(c1 * mlp_ratio)
        if hidden < 1:
            raise ArgumentError(f"FasterBlock: mlp_ratio={mlp_ratio!r} leaves no hidden channel of c1={c1}")
        self.expand = ConvNormAct(c1, hidden, 1, act=nn.ReLU())
        self.reduce = nn.Conv2d(hidden, c1, 1, bias=False)
        self.shortcut = shortcut

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        y: Tensor = self.reduce(self.expand(self.spatial_mixing(x_BCHW)))
        return x_BCHW + y if self.shortcut else y

    def fuse(self) -> FasterBlock:
        """Fold the batch norm into the expanding convolution, in place; idempotent."""
        self.expand.fuse()
        return self


class FasterC3k(nn.Module):
    """Two branches over ``c2 / 2`` channels, one of them through a chain of FasterNet blocks, joined by 1x1.

    Args:
        c1: Input channels.
        c2: Output channels.
        n: Blocks in the chain.
        shortcut: See :class:`FasterBlock`.
        g: Groups of the partial convolutions.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1) -> None:
        super().__init__()
        hidden = c2 // 2
        self.cv1 = ConvNormAct(c1, hidden)
        self.cv2 = ConvNormAct(c1, hidden)
        self.cv3 = ConvNormAct(2 * hidden, c2)
        self.m = nn.Sequential(*(FasterBlock(hidden, g=g, shortcut=shortcut) for _ in range(n)))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, height, width)."""
        y: Tensor = self.cv3(torch.cat((self.m(self.cv1(x_BCHW)), self.cv2(x_BCHW)), 1))
        return y


class C3k2_Faster(nn.Module):
    """C3k2 whose bottlenecks are FasterNet blocks.

    Args:
        c1: Input channels.
        c2: Output channels.
        n: Units in the chain.
        c3k: Make each unit a :class:`FasterC3k` with two blocks instead of one block.
        e: Hidden channels as a share of ``c2``.
        g: Groups of the partial convolutions.
        shortcut: Add each block's input to its output.

    Raises:
        ArgumentError: A value is below 1, or ``e`` leaves too few hidden channels.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        c3k: bool = False,
        e: float = 0.5,
        g: int = 1,
        shortcut: bool = True,
    ) -> None:
        super().__init__()
        require_positive("C3k2_Faster", c1=c1, c2=c2, n=n, g=g)
        hidden = int(c2 * e)
        least = 2 if c3k else 1
        if hidden < least:
            raise ArgumentError(
                f"C3k2_Faster: e={e!r} leaves {hidden} hidden channels of c2={c2}; at least {least} needed"
            )
        self.c = hidden
        self.cv1 = ConvNormAct(c1, 2 * hidden)
        self.cv2 = ConvNormAct((2 + n) * hidden, c2)
        self.m = nn.ModuleList(
            FasterC3k(hidden, hidden, 2, shortcut, g) if c3k else FasterBlock(hidden, g=g, shortcut=shortcut)
            for _ in range(n)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, height, width)."""
        parts = list(self.cv1(x_BCHW).split(self.c, 1))
        for unit in self.m:
            parts.append(unit(parts[-1]))
        y: Tensor = self.cv2(torch.cat(parts, 1))
        return y

    def fuse(self) -> C3k2_Faster:
        """Fold every batch norm in place; idempotent."""
        fuse_tree(self)
        return self
