"""Shuffle attention: in each group of channels one half is weighed by channel, the other by pixel; then both mix.

Paper: "SA-Net: Shuffle Attention for Deep Convolutional Neural Networks", ICASSP 2021.
Official source: github.com/wofmanaf/SA-Net, models/sa_resnet.py, read at commit
00a676085e2ad12f3e2053109ece4840de6a5ce1. The repository states no licence; what stands here is written from the
paper's formulas. No weights are used.

Differences: the number of groups follows from the channels where 64, the paper's, does not divide them.

Shape suffixes: B batch, G groups, D channels of half a group, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_multiple, require_positive


class ShuffleAttention(nn.Module):
    """Weigh one half of each group's channels by its mean, the other by its normalised pixels; shuffle the halves.

    Args:
        c1: Input channels; the output has as many.
        groups: Number of groups; twice of it must divide ``c1``. None takes the largest up to 64 that does.

    Raises:
        ArgumentError: A value is below 1, or ``2 * groups`` does not divide ``c1``.
    """

    def __init__(self, c1: int, groups: int | None = None) -> None:
        super().__init__()
        require_positive("ShuffleAttention", c1=c1, groups=groups)
        require_multiple("ShuffleAttention", "2", 2, c1=c1)
        if groups is None:
            groups = max(count for count in range(1, 65) if c1 % (2 * count) == 0)
        require_multiple("ShuffleAttention", "2 * groups", 2 * groups, c1=c1)
        half = c1 // (2 * groups)
        self.groups = groups
        self.cweight = nn.Parameter(torch.zeros(1, half, 1, 1))
        self.cbias = nn.Parameter(torch.ones(1, half, 1, 1))
        self.sweight = nn.Parameter(torch.zeros(1, half, 1, 1))
        self.sbias = nn.Parameter(torch.ones(1, half, 1, 1))
        self.gn = nn.GroupNorm(half, half)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the weighted and shuffled input, shape unchanged."""
        batch, channels, height, width = x_BCHW.shape
        by_channel_NDHW, by_pixel_NDHW = x_BCHW.reshape(batch * self.groups, -1, height, width).chunk(2, 1)
        mean_ND11 = by_channel_NDHW.mean((2, 3), keepdim=True)
        first = by_channel_NDHW * (self.cweight * mean_ND11 + self.cbias).sigmoid()
        second = by_pixel_NDHW * (self.sweight * self.gn(by_pixel_NDHW) + self.sbias).sigmoid()
        joined_BCHW = torch.cat((first, second), 1).reshape(batch, channels, height, width)
        # The channels of both halves of the picture's channels alternate.
        return joined_BCHW.reshape(batch, 2, -1, height, width).transpose(1, 2).reshape(x_BCHW.shape)
