"""CBAM: channel attention, then spatial attention.

Paper: "CBAM: Convolutional Block Attention Module", ECCV 2018.
Official source: github.com/Jongchan/attention-module, MODELS/cbam.py, read at commit
459efad0e05ee7dde50c41ca10a3d0800bc3792a. Licence: MIT. No weights are used.

Differences: the hidden layer of the channel gate keeps at least one unit (the official code fails below ``reduction``
channels); the spatial kernel size is an argument (7 in the official code). Only the pooling pair of the paper,
average and maximum, is offered. Stock Ultralytics has a class of the same name that is another block: average pooling
only, no hidden layer, and no batch norm in its spatial gate.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.errors import ArgumentError


class CBAM(nn.Module):
    """Weigh channels by pooled descriptors, then pixels by a convolution over channel statistics.

    Args:
        c1: Input channels; the output has as many.
        k: Kernel size of the spatial gate, odd.
        reduction: Ratio of channels to hidden units in the channel gate.

    Raises:
        ArgumentError: ``k`` is even or a value is below 1.
    """

    def __init__(self, c1: int, k: int = 7, reduction: int = 16) -> None:
        super().__init__()
        require_positive("CBAM", c1=c1, k=k, reduction=reduction)
        if k % 2 == 0:
            raise ArgumentError(f"CBAM: k must be odd, found {k}")
        hidden = max(c1 // reduction, 1)
        self.channel = nn.Sequential(nn.Linear(c1, hidden), nn.ReLU(), nn.Linear(hidden, c1))
        self.spatial = ConvNormAct(2, 1, k, act=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the weighted input, shape unchanged."""
        scores_BC = self.channel(x_BCHW.mean((2, 3))) + self.channel(x_BCHW.amax((2, 3)))
        x_BCHW = x_BCHW * scores_BC.sigmoid()[:, :, None, None]
        statistics_B2HW = torch.cat((x_BCHW.amax(1, keepdim=True), x_BCHW.mean(1, keepdim=True)), 1)
        y: Tensor = x_BCHW * self.spatial(statistics_B2HW).sigmoid()
        return y

    def fuse(self) -> CBAM:
        """Fold the spatial gate's batch norm into its convolution, in place; idempotent."""
        self.spatial.fuse()
        return self
