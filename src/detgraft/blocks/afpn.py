"""AFPN's parts: adaptive spatial fusion of levels that were brought to one size, and the residual block behind it.

Paper: "AFPN: Asymptotic Feature Pyramid Network for Object Detection", IEEE SMC 2023 (arXiv 2306.15988; section III-C,
adaptive spatial fusion).
Official source: github.com/gyyang23/AFPN, mmyolo/mmyolo/models/necks/yolov5_afpn.py, run for its numbers at commit
0930b563b43830c68825241689b80d8e430f2576. These files have no licence, so no line is used. No weights are used.

Differences: any number of inputs from two on in one class; inputs with other channels than the output are projected by
a 1x1 convolution and batch norm first. The convolutions of the residual block have no bias, which the batch norm
behind them takes away again. Weights are initialised as everywhere in the detector (officially by Xavier's rule with
gain 0.02).

Shape suffixes: B batch, N inputs, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.parts.joining import fold_norms, projections, require_inputs, require_same_size


class SpatialFusion(nn.Module):
    """Add inputs up with shares that each pixel decides by a softmax over the inputs, then convolve.

    Args:
        channels: Channels of each input.
        c2: Output channels.
        compress: Channels to which each input is reduced to decide the shares.

    Raises:
        ArgumentError: Fewer than two inputs, or a value below 1.
    """

    def __init__(self, channels: list[int], c2: int, compress: int = 8) -> None:
        super().__init__()
        inputs = require_inputs("SpatialFusion", channels)
        require_positive("SpatialFusion", c2=c2, compress=compress)
        self.project = projections(inputs, c2)
        self.views = nn.ModuleList(ConvNormAct(c2, compress) for _ in inputs)
        self.shares = nn.Conv2d(compress * len(inputs), len(inputs), 1)
        self.conv = ConvNormAct(c2, c2, 3)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return ``(B, c2, H, W)`` for inputs of one height and width.

        Raises:
            ArgumentError: Their sizes differ.
        """
        require_same_size("SpatialFusion", inputs)
        features = [project(x) for project, x in zip(self.project, inputs, strict=True)]
        views = torch.cat([view(x) for view, x in zip(self.views, features, strict=True)], 1)
        shares_BNHW = self.shares(views).softmax(1)
        terms = [x * shares_BNHW[:, i : i + 1] for i, x in enumerate(features)]
        y: Tensor = self.conv(torch.stack(terms).sum(0))
        return y

    def fuse(self) -> SpatialFusion:
        """Fold the batch norms, in place; idempotent."""
        fold_norms(self)
        return self


class AFPNBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; the activation comes behind the sum.

    Args:
        c1: Input channels; the output has as many.

    Raises:
        ArgumentError: A value below 1.
    """

    def __init__(self, c1: int) -> None:
        super().__init__()
        require_positive("AFPNBlock", c1=c1)
        self.conv1 = ConvNormAct(c1, c1, 3)
        self.conv2 = ConvNormAct(c1, c1, 3, act=False)
        self.act = nn.SiLU()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of the same shape."""
        y: Tensor = self.act(x_BCHW + self.conv2(self.conv1(x_BCHW)))
        return y

    def fuse(self) -> AFPNBlock:
        """Fold the batch norms, in place; idempotent."""
        fold_norms(self)
        return self
