"""Dynamic head: attention over scales, places and tasks, one after the other, on all levels of a pyramid.

Paper: "Dynamic Head: Unifying Object Detection Heads with Attentions", CVPR 2021.
Official source: github.com/microsoft/DynamicHead, dyhead/dyhead.py (``DyConv``) and dyhead/dyrelu.py (``DYReLU``), read
at commit 9c7cd661e362e9e58a43d8b18fe56afaa2aae22c. Licence: MIT. No weights are used.

Differences: the official head works on an FPN whose levels all have 256 channels. YOLO's levels differ, so each passes
a 1x1 convolution into a common width first and one back into its own channels at the end; the head behind stays what
it was. The width is by default the finest level's, to a multiple of 16 as the group norms need. Six blocks in the
paper, two here by default.
The official code convolves the coarser level with the offsets of the finer one and enlarges the result. The two grids
differ there, and its CUDA operator reads the offsets with the coarser grid's row length, at places that they were not
made for. Here the coarser level is enlarged first, so that all levels are sampled at the same places, as in the paper's
equation 5. The rest is compared with the official code, run with an operator that enlarges in that order.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.asff import levels_of
from detgraft.blocks.deform_conv import modulated_conv
from detgraft.blocks.parts.arguments import require_multiple, require_positive
from detgraft.blocks.parts.conv import ConvNormAct

GROUPS = 16
"""Groups of every group norm."""

_TAPS = 9


class DyHead(nn.Module):
    """Dynamic head on a pyramid whose levels may have different channels.

    Args:
        channels: Channels of each level, the finest first; also those of the output.
        width: Common channels inside, a multiple of 16; by default the finest level's, rounded up.
        blocks: Number of blocks one after the other.

    Attributes:
        channels: Channels of each output.

    Raises:
        ArgumentError: Fewer than two levels, or a value out of range.
    """

    def __init__(self, channels: list[int], width: int | None = None, blocks: int = 2) -> None:
        super().__init__()
        self.channels = levels_of("DyHead", channels)
        require_positive("DyHead", width=width, blocks=blocks)
        inside = math.ceil(self.channels[0] / GROUPS) * GROUPS if width is None else width
        self.enter = nn.ModuleList(ConvNormAct(c, inside, 1) for c in self.channels)
        self.blocks = nn.Sequential(*(DyHeadBlock(inside) for _ in range(blocks)))
        self.leave = nn.ModuleList(ConvNormAct(inside, c, 1) for c in self.channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one feature per level, each of the shape ``(B, C, H, W)`` of its input."""
        inside = [enter(x) for enter, x in zip(self.enter, features, strict=True)]
        return [leave(x) for leave, x in zip(self.leave, self.blocks(inside), strict=True)]

    def extra_repr(self) -> str:
        """Show the channels."""
        return f"channels={list(self.channels)}"


class DyHeadBlock(nn.Module):
    """One block of the dynamic head (official ``DyConv``), on levels of one width.

    Args:
        width: Channels, a multiple of 16.

    Raises:
        ArgumentError: The width is no multiple of 16.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        require_positive("DyHeadBlock", width=width)
        require_multiple("DyHeadBlock", "groups", GROUPS, width=width)
        self.offset = nn.Conv2d(width, 3 * _TAPS, 3, 1, 1)
        self.coarser = _SampledConvNorm(width, 1)
        self.same = _SampledConvNorm(width, 1)
        self.finer = _SampledConvNorm(width, 2)
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, 1, 1), nn.ReLU())
        nn.init.normal_(self.scale[1].weight, 0, 0.01)  # type: ignore[arg-type]
        nn.init.zeros_(self.scale[1].bias)  # type: ignore[arg-type]
        self.task = DynamicReLU(width)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return features of the same shapes; the finest comes first."""
        refined = []
        for level, x_BCHW in enumerate(features):
            offset, mask = self.offset(x_BCHW).split((2 * _TAPS, _TAPS), 1)
            mask = mask.sigmoid()
            sampled = [self.same(x_BCHW, offset, mask)]
            if level > 0:
                sampled.append(self.finer(features[level - 1], offset, mask))
            if level < len(features) - 1:
                coarse, size = features[level + 1], x_BCHW.shape[-2:]
                enlarged = F.interpolate(coarse, size=size, mode="bilinear", align_corners=True)
                sampled.append(self.coarser(enlarged, offset, mask))
            weighed = [y * F.hardsigmoid(self.scale(y)) for y in sampled]
            total = weighed[0]
            for y_BCHW in weighed[1:]:
                total = total + y_BCHW
            refined.append(self.task(total / len(weighed)))
        return refined


class _SampledConvNorm(nn.Module):
    """A 3x3 convolution that is told where to sample, and a group norm."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv = _SampledConv(width, stride)
        self.norm = nn.GroupNorm(GROUPS, width)

    def forward(self, x_BCHW: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x_BCHW, offset, mask))
        return y


class _SampledConv(nn.Module):
    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        bound = 1 / math.sqrt(width * _TAPS)
        self.weight = nn.Parameter(torch.empty(width, width, 3, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x_BCHW: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        return modulated_conv(x_BCHW, offset, mask, self.weight, self.bias, s=self.stride, p=1)


class DynamicReLU(nn.Module):
    """The larger of two lines per channel, whose slopes and intercepts follow from the whole feature (DYReLU).

    Args:
        channels: Channels.
        reduction: Divisor of the channels inside.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        require_positive("DynamicReLU", channels=channels, reduction=reduction)
        inside = max(channels // reduction, 1)
        self.fc = nn.Sequential(nn.Linear(channels, inside), nn.ReLU(), nn.Linear(inside, 4 * channels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the shape of the input."""
        lines = F.hardsigmoid(self.fc(x_BCHW.mean((2, 3)))) - 0.5
        a1, b1, a2, b2 = lines[:, :, None, None].chunk(4, 1)
        return torch.max(x_BCHW * (2 * a1 + 1) + b1, x_BCHW * (2 * a2) + b2)
