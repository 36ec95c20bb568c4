"""PKINet backbones: three sizes, with a width factor.

Paper: "Poly Kernel Inception Network for Remote Sensing Detection", CVPR 2024.
Official source: github.com/NUST-Machine-Intelligence-Laboratory/PKINet, mmrotate/models/backbones/pkinet.py, read at
commit c1e72da3f63a5279facced24d0e40320a5ceaddd. Licence: Apache-2.0. None of the published weights are loaded here.
Differences: a factor on the widths; no dropout and no drop path.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.backbones.convnextv2 import check_width
from detgraft.blocks.backbones.repvit import Four, make_divisible
from detgraft.blocks.caa import POOL
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.parts.fusing import holds_weight
from detgraft.blocks.parts.norms import ChannelNorm, as_convolution, fold_in_front
from detgraft.errors import CatalogError, nearest

# Channels of the stem and blocks per stage; each stage has twice the channels of the one before.
SETTINGS: dict[str, tuple[int, Four]] = {
    "t": (16, (4, 14, 22, 4)),
    "s": (32, (4, 12, 20, 4)),
    "b": (40, (6, 16, 24, 6)),
}
KERNELS = (3, 5, 7, 9, 11)
"""Sizes of the depthwise kernels of a block; the first comes before the others, which are added to it."""
STRIP = 11
"""Length of the strips of a stage's first block; each further block has 2 more."""
RATIOS: Four = (8, 8, 4, 4)
SHORTCUT_KERNELS: Four = (5, 7, 9, 11)
"""Of each stage's shortcut: hidden channels as a multiple of its channels, and the depthwise kernel."""


class AnchorFactor(nn.Module):
    """A factor per pixel from an average of its surroundings seen through two strips, without norms.

    Args:
        c1: Input channels; the output has as many.
        k: Length of the strips, odd.
    """

    def __init__(self, c1: int, k: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(POOL, 1, POOL // 2)
        self.conv1 = nn.Conv2d(c1, c1, 1)
        self.h_conv = nn.Conv2d(c1, c1, (1, k), padding=(0, k // 2), groups=c1)
        self.v_conv = nn.Conv2d(c1, c1, (k, 1), padding=(k // 2, 0), groups=c1)
        self.conv2 = nn.Conv2d(c1, c1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the factors, shape unchanged."""
        y: Tensor = self.conv2(self.v_conv(self.h_conv(self.conv1(self.pool(x_BCHW))))).sigmoid()
        return y


class GatedPerceptron(nn.Module):
    """Layer norm, 1x1, depthwise k x k, a gate by the channel's mean, 1x1.

    Args:
        c1: Input channels; the output has as many.
        ratio: Hidden channels as a multiple of ``c1``.
        k: Kernel size, odd.
    """

    def __init__(self, c1: int, ratio: int, k: int) -> None:
        super().__init__()
        hidden = c1 * ratio
        self.norm = ChannelNorm(c1, 1e-5)
        self.expand = nn.Conv2d(c1, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, k, padding=k // 2, groups=hidden)
        self.reduce = nn.Conv2d(hidden, c1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        seen = self.depthwise(self.expand(self.norm(x_BCHW)))
        y: Tensor = self.reduce(seen * seen.mean((2, 3), keepdim=True).sigmoid())
        return y


class PKIBlock(nn.Module):
    """Depthwise kernels of five sizes weighed by a context factor, then a gated perceptron; both scaled and added.

    Args:
        c1: Input channels; the output has as many.
        strip: Length of the strips of the context factor, odd.
    """

    def __init__(self, c1: int, strip: int) -> None:
        super().__init__()
        self.norm1: nn.Module = nn.BatchNorm2d(c1)
        self.pre_conv = ConvNormAct(c1, c1, 1)
        self.kernels = nn.ModuleList(nn.Conv2d(c1, c1, k, padding=k // 2, groups=c1) for k in KERNELS)
        self.pw_conv = ConvNormAct(c1, c1, 1)
        self.caa_factor = AnchorFactor(c1, strip)
        self.post_conv = ConvNormAct(c1, c1, 1)
        self.gamma1 = nn.Parameter(torch.ones(c1))
        self.norm2: nn.Module = nn.BatchNorm2d(c1)
        self.ffn = GatedPerceptron(c1, 4, 3)
        self.gamma2 = nn.Parameter(torch.ones(c1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        entered = self.pre_conv(self.norm1(x_BCHW))
        first, *others = self.kernels
        seen = first(entered)
        total = seen
        for kernel in others:
            total = total + kernel(seen)
        mixed = self.pw_conv(total)
        inner = self.post_conv(mixed + mixed * self.caa_factor(entered))
        x_BCHW = x_BCHW + inner * self.gamma1[:, None, None]
        y: Tensor = x_BCHW + self.ffn(self.norm2(x_BCHW)) * self.gamma2[:, None, None]
        return y

    def fuse(self) -> PKIBlock:
        """Fold the batch norms beside convolutions, and make the one before a layer norm a convolution; idempotent."""
        for unit in (self.pre_conv, self.pw_conv, self.post_conv):
            unit.fuse()
        if isinstance(self.norm1, nn.BatchNorm2d) and holds_weight(self.pre_conv.conv):
            fold_in_front(self.norm1, self.pre_conv.conv)
            self.norm1 = nn.Identity()
        if isinstance(self.norm2, nn.BatchNorm2d):
            self.norm2 = as_convolution(self.norm2)
        return self


class PKIStage(nn.Module):
    """Halve the size; one half of the channels through a perceptron, the other through the sum of all blocks.

    Args:
        c1: Input channels.
        c2: Output channels.
        depth: Number of blocks.
        ratio: Hidden channels of the shortcut's perceptron as a multiple of its channels.
        k: Its depthwise kernel, odd.
    """

    def __init__(self, c1: int, c2: int, depth: int, ratio: int, k: int) -> None:
        super().__init__()
        hidden = make_divisible(c2 // 2)
        self.downsample = ConvNormAct(c1, c2, 3, 2)
        self.conv1 = ConvNormAct(c2, 2 * hidden, 1)
        self.conv2 = ConvNormAct(2 * hidden, c2, 1)
        self.conv3 = ConvNormAct(c2, c2, 1)
        self.ffn = GatedPerceptron(hidden, ratio, k)
        self.blocks = nn.ModuleList(PKIBlock(hidden, STRIP + 2 * number) for number in range(depth))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, height / 2, width / 2)."""
        shortcut, entered = self.conv1(self.downsample(x_BCHW)).chunk(2, 1)
        shortcut = shortcut + self.ffn(shortcut)
        total = torch.zeros_like(entered)
        for block in self.blocks:
            total = total + block(entered)
        y: Tensor = self.conv3(self.conv2(torch.cat((shortcut, total), 1)))
        return y


class PKINet(nn.Module):
    """A stem of stride 2 and four stages.

    Args:
        c1: Input channels.
        stem: Channels of the stem.
        dims: Channels of each stage.
        depths: Blocks of each stage.

    Attributes:
        channels: Channels of each feature.
        reductions: Reduction of each feature.
    """

    reductions = (4, 8, 16, 32)

    def __init__(self, c1: int, stem: int, dims: Four, depths: Four) -> None:
        super().__init__()
        hidden = make_divisible(stem)
        self.stem = nn.Sequential(
            ConvNormAct(c1, hidden, 3, 2), ConvNormAct(hidden, hidden, 3), ConvNormAct(hidden, stem, 3)
        )
        self.channels = dims
        self.stages = nn.ModuleList(
            PKIStage(before, channels, depth, ratio, k)
            for before, channels, depth, ratio, k in zip(
                (stem, *dims[:3]), dims, depths, RATIOS, SHORTCUT_KERNELS, strict=True
            )
        )

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the features at reductions 4, 8, 16 and 32."""
        features = [self.stem(x_BCHW)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features[1:]


def pkinet(size: str, c1: int, width: float = 1.0) -> PKINet:
    """Build a PKINet backbone with features at reductions 4, 8, 16 and 32.

    Args:
        size: One of `SETTINGS`.
        c1: Input channels.
        width: Factor on the official channels; the stem's are then rounded to a multiple of 8.

    Raises:
        CatalogError: for an unknown size.
        ArgumentError: for a width that is no positive number.
    """
    if size not in SETTINGS:
        raise CatalogError(f"unknown PKINet size {size!r}; there are {', '.join(SETTINGS)}.{nearest(size, SETTINGS)}")
    check_width("pkinet", size, width)
    stem, depths = SETTINGS[size]
    stem = make_divisible(stem * width)
    return PKINet(c1, stem, (2 * stem, 4 * stem, 8 * stem, 16 * stem), depths)
