"""Triplet attention: a spatial gate, and the same gate over each pair of channel and axis.

Paper: "Rotate to Attend: Convolutional Triplet Attention Module", WACV 2021.
Official source: github.com/landskape-ai/triplet-attention, MODELS/triplet_attention.py, read at commit
2cf02fb91196408ac6352f7984a0336aa4f7677a. Licence: MIT. No weights are used.

Differences: none in value. The two pictures that a gate convolves are computed along the axis that is pooled, so that
the features themselves are never turned.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.errors import ArgumentError


class TripletAttention(nn.Module):
    """Average the input weighed by three gates: over (W, C), over (H, C) and over (H, W).

    Args:
        c1: Input channels; the output has as many.
        k: Kernel size of the gates, odd.
        spatial: Whether the gate over (H, W) takes part.

    Raises:
        ArgumentError: A value is below 1, or ``k`` is even.
    """

    def __init__(self, c1: int, k: int = 7, spatial: bool = True) -> None:
        super().__init__()
        require_positive("TripletAttention", c1=c1, k=k)
        if k % 2 == 0:
            raise ArgumentError(f"TripletAttention: k must be odd, found {k}")
        self.rows = ConvNormAct(2, 1, k, act=False)
        self.columns = ConvNormAct(2, 1, k, act=False)
        self.pixels = ConvNormAct(2, 1, k, act=False) if spatial else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the weighted input, shape unchanged."""
        over_rows_B1CW = self.rows(_extremes(x_BCHW, 2)).sigmoid()
        over_columns_B1HC = self.columns(_extremes(x_BCHW, 3).transpose(2, 3)).sigmoid()
        total = over_rows_B1CW.transpose(1, 2) + over_columns_B1HC.permute(0, 3, 2, 1)
        gates = 2
        if self.pixels is not None:
            total, gates = total + self.pixels(_extremes(x_BCHW, 1)).sigmoid(), 3
        y: Tensor = x_BCHW * (total / gates)
        return y

    def fuse(self) -> TripletAttention:
        """Fold the batch norms into the convolutions in front of them, in place; idempotent."""
        for gate in (self.rows, self.columns, self.pixels):
            if gate is not None:
                gate.fuse()
        return self


def _extremes(x: Tensor, axis: int) -> Tensor:
    """Return maximum and mean along one axis as the two channels of a picture of the other two, in their order."""
    return torch.stack((x.amax(axis), x.mean(axis)), 1)
