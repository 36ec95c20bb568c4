"""Adaptively spatial feature fusion: each level becomes a weighted sum of all levels, pixel by pixel.

Paper: "Learning Spatial Fusion for Single-Shot Object Detection", arXiv 1911.09516 (section 3, equations 1 and 3).
Official source: github.com/GOATmessi7/ASFF. Licence: GPL-3.0, so nothing of it was used: this is written from the
paper's equations and its text on resizing. No weights are used.

Form: for level ``l`` every other level is brought to its size and channels. A coarser one passes a 1x1 convolution and
is enlarged; a finer one of twice the size passes a 3x3 convolution of stride 2, and finer ones a max pooling of stride
2 per further halving before it. One 1x1 convolution per level gives a map of logits, a softmax over the levels makes
them the shares of a sum.

Differences: the paper fuses three levels, this any number from two on. Enlarging takes the nearest pixel. The output
keeps each level's channels, so that the head behind stays what it was. Convolutions have a batch norm and SiLU, as all
of YOLO's.

Shape suffixes: B batch, C channels, H height, W width, L levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.errors import ArgumentError


class ASFF(nn.Module):
    """Fuse a pyramid's levels into each of them.

    Args:
        channels: Channels of each level, the finest first; also those of the output. Each level has half the height
            and width of the one before it.

    Attributes:
        channels: Channels of each output.

    Raises:
        ArgumentError: Fewer than two levels.
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.channels = levels_of("ASFF", channels)
        self.fusions = nn.ModuleList(_Fusion(self.channels, level) for level in range(len(self.channels)))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one feature per level, each of the shape ``(B, C, H, W)`` of its input."""
        features = list(features)
        return [fusion(features) for fusion in self.fusions]

    def extra_repr(self) -> str:
        """Show the channels."""
        return f"channels={list(self.channels)}"


class _Fusion(nn.Module):
    """One level as a weighted sum of all."""

    def __init__(self, channels: Sequence[int], level: int) -> None:
        super().__init__()
        width = channels[level]
        self.level = level
        self.resize = nn.ModuleList(
            nn.Identity()
            if other == level
            else ConvNormAct(c, width, 1)
            if other > level
            else nn.Sequential(*(nn.MaxPool2d(3, 2, 1) for _ in range(level - other - 1)), ConvNormAct(c, width, 3, 2))
            for other, c in enumerate(channels)
        )
        self.logit = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in channels)

    def forward(self, features: list[Tensor]) -> Tensor:
        size = features[self.level].shape[-2:]
        resized = []
        for other, (resize, feature) in enumerate(zip(self.resize, features, strict=True)):
            same = resize(feature)
            resized.append(F.interpolate(same, size=size, mode="nearest") if other > self.level else same)
        share_BLHW = torch.cat([logit(x) for logit, x in zip(self.logit, resized, strict=True)], 1).softmax(1)
        total = resized[0] * share_BLHW[:, :1]
        for index, x_BCHW in enumerate(resized[1:], 1):
            total = total + x_BCHW * share_BLHW[:, index : index + 1]
        return total


def levels_of(block: str, channels: object) -> tuple[int, ...]:
    """Check the channels of a pyramid's levels.

    Args:
        block: Name of the block, for the message.
        channels: One number per level.

    Raises:
        ArgumentError: Fewer than two levels, or a number below 1.
    """
    if not isinstance(channels, (list, tuple)) or len(channels) < 2:
        raise ArgumentError(f"{block}: channels must list the channels of two or more levels, found {channels!r:.80}")
    for value in channels:
        require_positive(block, channels=value)
    return tuple(channels)
