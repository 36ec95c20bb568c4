"""CSPStage: the fusion block of DAMO-YOLO's RepGFPN.

Paper: "DAMO-YOLO: A Report on Real-Time Object Detection Design", arXiv 2211.15444 (section 2.2, efficient RepGFPN,
figure 4).
Official source: github.com/tinyvision/DAMO-YOLO, damo/base_models/core/ops.py (``CSPStage``,
``BasicBlock_3x3_Reverse``, ``RepConv``), read at commit 319572eef367340267ab6ab8ae253527a71d7c3a. Licence: Apache-2.0.
No weights are used.

Differences: the pyramid pooling that the official class can put into its chain is left out, as in its own
configurations; folded, the two branches become one 3x3 convolution with the activation behind it.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.parts.fusing import holds_weight
from detgraft.blocks.parts.joining import fold_norms
from detgraft.errors import ArgumentError


class RepUnit(nn.Module):
    """A 3x3 and a 1x1 convolution, each with its batch norm, added and activated; one 3x3 convolution once folded.

    Args:
        c1: Input channels.
        c2: Output channels.
    """

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.dense = ConvNormAct(c1, c2, 3, act=False)
        self.point = ConvNormAct(c1, c2, 1, act=False)
        self.act = nn.SiLU()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, c1, H, W)`` to ``(B, c2, H, W)``."""
        y: Tensor = self.act(self.dense(x_BCHW) + self.point(x_BCHW))
        return y

    def fuse(self) -> nn.Module:
        """Return one convolution with the activation behind it; itself where a weight cannot be written to."""
        if not (holds_weight(self.dense.conv) and holds_weight(self.point.conv)):
            return self
        fold_norms(self)
        dense, point = self.dense.conv, self.point.conv
        if dense.bias is None or point.bias is None:  # norms that are none, of somebody's own
            return self
        with torch.no_grad():
            dense.weight.add_(F.pad(point.weight, (1, 1, 1, 1)))
            dense.bias.add_(point.bias)
        self.dense.act = self.act
        return self.dense


class RepBottleneck(nn.Module):
    """A re-parameterised unit and a 3x3 convolution with a shortcut around both.

    Args:
        c: Input and output channels.
        e: Hidden channels as a share of ``c``.
    """

    def __init__(self, c: int, e: float = 1.0) -> None:
        super().__init__()
        hidden = max(int(c * e), 1)
        self.conv2: nn.Module = RepUnit(c, hidden)
        self.conv1 = ConvNormAct(hidden, c, 3)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of the same shape."""
        y: Tensor = x_BCHW + self.conv1(self.conv2(x_BCHW))
        return y

    def fuse(self) -> RepBottleneck:
        """Fold the branches and the batch norm, in place; idempotent."""
        if isinstance(self.conv2, RepUnit):
            self.conv2 = self.conv2.fuse()
        self.conv1.fuse()
        return self


class CSPStage(nn.Module):
    """Two branches of half the channels, one of them a chain whose every link is kept, joined by a 1x1 convolution.

    Args:
        c1: Input channels.
        c2: Output channels.
        n: Links of the chain.
        ratio: Hidden channels of a link as a share of its channels.

    Raises:
        ArgumentError: A value is below 1, or fewer than two output channels.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, ratio: float = 1.0) -> None:
        super().__init__()
        require_positive("CSPStage", c1=c1, c2=c2, n=n)
        if c2 < 2 or not ratio > 0:
            raise ArgumentError(
                f"CSPStage: needs two or more output channels and a ratio above 0, found {c2}, {ratio!r}"
            )
        first = c2 // 2
        middle = c2 - first
        self.conv1 = ConvNormAct(c1, first)
        self.conv2 = ConvNormAct(c1, middle)
        self.convs = nn.ModuleList(RepBottleneck(middle, ratio) for _ in range(n))
        self.conv3 = ConvNormAct(middle * n + first, c2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, c1, H, W)`` to ``(B, c2, H, W)``."""
        kept = [self.conv1(x_BCHW)]
        link = self.conv2(x_BCHW)
        for conv in self.convs:
            link = conv(link)
            kept.append(link)
        y: Tensor = self.conv3(torch.cat(kept, 1))
        return y

    def fuse(self) -> CSPStage:
        """Fold the branches and the batch norms, in place; idempotent."""
        for unit in self.convs:
            if isinstance(unit, RepBottleneck):
                unit.fuse()
        fold_norms(self)
        return self
