"""SCConv: makes features less redundant, first in space, then along the channels.

Paper: "SCConv: Spatial and Channel Reconstruction Convolution for Feature Redundancy", CVPR 2023.
Reference: github.com/cheng-haha/ScConv, ScConv.py, read at commit deab5bbec59bf59f389a2a8b6b709597cd46c3fa. The
repository states no licence; what stands here is written from the paper's formulas. No weights are used.

Differences: none in the numbers.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_multiple, require_positive
from detgraft.errors import ArgumentError


class SpatialReconstruction(nn.Module):
    """Weigh pixels by how informative their normalised value is, and cross what is left over between two halves.

    Args:
        c1: Input channels, even; the output has as many.
        groups: Groups of the norm; must divide ``c1``.
        threshold: Weight above which a pixel counts as informative.
    """

    def __init__(self, c1: int, groups: int = 4, threshold: float = 0.5) -> None:
        super().__init__()
        self.threshold = threshold
        self.norm = nn.GroupNorm(groups, c1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the rebuilt input, shape unchanged."""
        share_C11 = (self.norm.weight / self.norm.weight.sum()).reshape(-1, 1, 1)
        weight = (self.norm(x_BCHW) * share_C11).sigmoid()
        above = weight > self.threshold
        first, second = (x_BCHW * weight.masked_fill(above, 1.0)).chunk(2, 1)
        third, fourth = (x_BCHW * weight.masked_fill(above, 0.0)).chunk(2, 1)
        return torch.cat((first + fourth, second + third), 1)


class ChannelReconstruction(nn.Module):
    """Split the channels: one part is convolved, the other mostly reused; weigh both by their means.

    Args:
        c1: Input channels; the output has as many.
        alpha: Share of the channels that is convolved, between 0 and 1.
        squeeze: Ratio by which each part is squeezed first.
        groups: Groups of the k x k convolution.
        k: Kernel size, odd.
    """

    def __init__(self, c1: int, alpha: float = 0.5, squeeze: int = 2, groups: int = 2, k: int = 3) -> None:
        super().__init__()
        upper = int(alpha * c1)
        lower = c1 - upper
        self.parts = [upper, lower]
        rich, cheap = upper // squeeze, lower // squeeze
        if not rich or not cheap or cheap >= c1:
            raise ArgumentError(f"SCConv: alpha={alpha!r} and squeeze={squeeze} leave a part of c1={c1} empty")
        require_multiple("SCConv", "g", groups, c1=c1, squeezed_channels=rich)
        self.squeeze1 = nn.Conv2d(upper, rich, 1, bias=False)
        self.squeeze2 = nn.Conv2d(lower, cheap, 1, bias=False)
        self.group = nn.Conv2d(rich, c1, k, padding=k // 2, groups=groups)
        self.point1 = nn.Conv2d(rich, c1, 1, bias=False)
        self.point2 = nn.Conv2d(cheap, c1 - cheap, 1, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the rebuilt input, shape unchanged."""
        upper, lower = torch.split(x_BCHW, self.parts, 1)
        upper, lower = self.squeeze1(upper), self.squeeze2(lower)
        joined = torch.cat((self.group(upper) + self.point1(upper), self.point2(lower), lower), 1)
        first, second = (joined.mean((2, 3), keepdim=True).softmax(1) * joined).chunk(2, 1)
        return first + second


class SCConv(nn.Module):
    """Spatial, then channel reconstruction.

    Args:
        c1: Input channels, a multiple of ``groups`` and of 4 times ``g``; the output has as many.
        groups: Groups of the norm.
        threshold: Weight above which a pixel counts as informative.
        alpha: Share of the channels that is convolved, between 0 and 1.
        squeeze: Ratio by which each part is squeezed first.
        g: Groups of the k x k convolution.
        k: Kernel size, odd.

    Raises:
        ArgumentError: A value out of range, or channels that a number of groups does not divide.
    """

    def __init__(
        self,
        c1: int,
        groups: int = 4,
        threshold: float = 0.5,
        alpha: float = 0.5,
        squeeze: int = 2,
        g: int = 2,
        k: int = 3,
    ) -> None:
        super().__init__()
        require_positive("SCConv", c1=c1, groups=groups, squeeze=squeeze, g=g, k=k)
        require_multiple("SCConv", "2", 2, c1=c1)
        require_multiple("SCConv", "groups", groups, c1=c1)
        if k % 2 == 0:
            raise ArgumentError(f"SCConv: k must be odd, found {k}")
        if not 0 < alpha < 1 or not 0 < threshold < 1:
            raise ArgumentError(f"SCConv: alpha and threshold must lie between 0 and 1, found {alpha!r}, {threshold!r}")
        self.space = SpatialReconstruction(c1, groups, threshold)
        self.channel = ChannelReconstruction(c1, alpha, squeeze, g, k)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the rebuilt input, shape unchanged."""
        y: Tensor = self.channel(self.space(x_BCHW))
        return y
