"""Deformable attention: every pixel attends to the same few points, whose places follow from the picture.

Paper: "Vision Transformer with Deformable Attention", CVPR 2022.
Official source: github.com/LeapLabTHU/DAT, models/dat_blocks.py (``DAttentionBaseline``), read at commit
32173fcf10d71abe73267f4e99829cd8624b7ab6. Licence: Apache-2.0. No weights are used.

Differences: the form whose position code is a depthwise convolution (``dwc_pe``), since a table belongs to one size of
picture. No dropout. Without a number the heads have 32 channels, or as many as also divide ``c1``. A picture of one row
or column of points gives numbers. The official code asks for a remainder-free stride and reads the points from maps of
exactly that size; here every size will do.

Shape suffixes: B batch, M heads, N pixels, P points, C channels, H height, W width.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_multiple, require_positive
from detgraft.blocks.parts.norms import ChannelNorm
from detgraft.blocks.parts.sampling import positions, sample_points
from detgraft.errors import ArgumentError


class DAttention(nn.Module):
    """Attention of all pixels to points sampled at predicted offsets from a coarse grid.

    Args:
        c1: Input channels; the output has as many.
        step: Pixels from one point to the next.
        k: Kernel size of the convolution that predicts the offsets, odd.
        groups: Groups of channels with points of their own; must divide the number of heads.
        head: Channels of a head; must divide ``c1``. None takes the largest up to 32 that divides both.
        reach: How far a point may move, in steps of the grid times one half.

    Raises:
        ArgumentError: A value is below 1, ``k`` is even, or numbers that do not divide each other.
    """

    def __init__(
        self, c1: int, step: int = 4, k: int = 7, groups: int = 1, head: int | None = None, reach: float = 2.0
    ) -> None:
        super().__init__()
        require_positive("DAttention", c1=c1, step=step, k=k, groups=groups, head=head)
        head = head or math.gcd(c1, 32)
        require_multiple("DAttention", "head", head, c1=c1)
        require_multiple("DAttention", "groups", groups, heads=c1 // head)
        if k % 2 == 0:
            raise ArgumentError(f"DAttention: k must be odd, found {k}")
        if not reach >= 0:
            raise ArgumentError(f"DAttention: reach must be at least 0, found {reach!r}")
        part = c1 // groups
        self.heads, self.groups, self.reach, self.scale = c1 // head, groups, reach, head**-0.5
        self.offset_conv = nn.Conv2d(part, part, k, step, k // 2 if k != step else 0, groups=part)
        self.offset_norm = ChannelNorm(part, 1e-5)
        self.act = nn.GELU()
        self.offset_point = nn.Conv2d(part, 2, 1, bias=False)
        self.proj_q = nn.Conv2d(c1, c1, 1)
        self.proj_k = nn.Conv2d(c1, c1, 1)
        self.proj_v = nn.Conv2d(c1, c1, 1)
        self.proj_out = nn.Conv2d(c1, c1, 1)
        self.position = nn.Conv2d(c1, c1, 3, padding=1, groups=c1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        batch, channels, height, width = x_BCHW.shape
        query = self.proj_q(x_BCHW)
        by_group = query.reshape(batch * self.groups, -1, height, width)
        offset = self.offset_point(self.act(self.offset_norm(self.offset_conv(by_group)))).float().tanh() * self.reach
        rows, columns = offset.shape[2:]
        row_H1, column_W = positions(rows, columns, 1, x_BCHW)
        row = (row_H1 + 0.5 + offset[:, :1] / 2) * _stretch(height, rows)
        column = (column_W + 0.5 + offset[:, 1:] / 2) * _stretch(width, columns)
        sampled = sample_points(x_BCHW.reshape(batch * self.groups, -1, height, width), row, column, "zeros")
        sampled_BCHW = sampled.reshape(batch, channels, rows, columns)
        query_BMNC, key_BMPC, value_BMPC = (
            part.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)
            for part in (query, self.proj_k(sampled_BCHW), self.proj_v(sampled_BCHW))
        )
        weights = (query_BMNC @ key_BMPC.transpose(2, 3) * self.scale).softmax(-1)
        mixed = (weights @ value_BMPC).transpose(2, 3).reshape(batch, channels, height, width)
        y: Tensor = self.proj_out(mixed + self.position(query))
        return y


def _stretch(pixels: int, points: int) -> float:
    """Pixels of the picture for one step of the grid: the first point to the last is the picture's first to last."""
    steps = points - 1
    return (pixels - 1) / (steps + (steps == 0))
