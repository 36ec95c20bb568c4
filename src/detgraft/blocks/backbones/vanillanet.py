"""VanillaNet backbones: ten sizes, with a width factor.

Paper: "VanillaNet: the Power of Minimalism in Deep Learning", NeurIPS 2023.
Official source: github.com/huawei-noah/VanillaNet, models/vanillanet.py, read at commit
6aaf7311d8cadddcec9db7595f071bfda6c480f4. Licence: MIT. None of the published weights are loaded here.
Differences: a factor on the widths; the classifier does not exist. The slope between the two convolutions of a block is
an argument: officially a trainer moves it from 0 to 1 during a training and leaves it there; ``fuse()`` makes one
convolution of the two where it is 1, and folds the batch norms where it is not. A feature is the output of the last
block of its stride. These networks are wide: the smallest has features of 512 to 4096 channels.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.backbones.convnextv2 import check_width
from detgraft.blocks.backbones.lsknet import fold_behind
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.parts.fusing import holds_weight
from detgraft.errors import ArgumentError, CatalogError, nearest

# Channels of the stem and of each block in units, stride of each block, and channels of a unit.
Setting = tuple[tuple[int, ...], tuple[int, ...], int]
SETTINGS: dict[str, Setting] = {
    "5": ((1, 2, 4, 8), (2, 2, 2), 512),
    "6": ((1, 2, 4, 8, 8), (2, 2, 2, 1), 512),
    "7": ((1, 1, 2, 4, 8, 8), (1, 2, 2, 2, 1), 512),
    **{
        str(n): ((1, 1, 2, *[4] * (n - 6), 8, 8), (1, 2, 2, *[1] * (n - 7), 2, 1), 512) for n in range(8, 14)
    },
    "13_x1_5": ((1, 1, 2, *[4] * 7, 8, 8), (1, 2, 2, *[1] * 6, 2, 1), 768),
}  # fmt: skip


class SeriesActivation(nn.Module):
    """ReLU, then a depthwise 7x7 convolution with batch norm: the activations around each pixel, weighed.

    Args:
        channels: Channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(channels, channels, 7, g=channels, act=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the activated input, shape unchanged."""
        y: Tensor = self.conv(F.relu(x_BCHW))
        return y

    def fuse(self) -> SeriesActivation:
        """Fold the batch norm, in place; idempotent."""
        self.conv.fuse()
        return self


class Pair(nn.Module):
    """Two convolutions with batch norms and a leaky ReLU between them, a maximum, and a series activation.

    Args:
        c1: Input channels.
        hidden: Channels between the convolutions.
        c2: Output channels.
        k: Kernel size of the first convolution, which is its stride, too; the second's is 1.
        s: Side of the squares of which the maximum is taken.
        slope: Slope of the leaky ReLU below zero.
    """

    def __init__(self, c1: int, hidden: int, c2: int, k: int, s: int, slope: float) -> None:
        super().__init__()
        self.s, self.slope = s, slope
        self.conv1: nn.Conv2d | None = nn.Conv2d(c1, hidden, k, k)
        self.norm1: nn.Module = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, c2, 1)
        self.norm2: nn.Module = nn.BatchNorm2d(c2)
        self.act = SeriesActivation(c2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, height / k / s, width / k / s)."""
        if self.conv1 is not None:
            x_BCHW = self.norm1(self.conv1(x_BCHW))
            x_BCHW = x_BCHW if self.slope == 1 else F.leaky_relu(x_BCHW, self.slope)
        x_BCHW = self.norm2(self.conv2(x_BCHW))
        y: Tensor = self.act(x_BCHW if self.s == 1 else F.max_pool2d(x_BCHW, self.s))
        return y

    @torch.no_grad()
    def fuse(self) -> Pair:
        """Fold the batch norms, and make one convolution of the two where nothing is between them; idempotent."""
        self.act.fuse()
        conv1 = self.conv1
        if conv1 is None or not holds_weight(conv1) or not holds_weight(self.conv2):
            return self
        for conv, name in ((conv1, "norm1"), (self.conv2, "norm2")):
            norm = getattr(self, name)
            if isinstance(norm, nn.BatchNorm2d):
                fold_behind(conv, norm)
                setattr(self, name, nn.Identity())
        if self.slope == 1:
            second = self.conv2.weight[:, :, 0, 0]
            assert conv1.bias is not None
            assert self.conv2.bias is not None
            self.conv2.bias.add_(second @ conv1.bias)
            merged = torch.einsum("oi,icjk->ocjk", second, conv1.weight)
            self.conv2.weight = nn.Parameter(merged, requires_grad=self.conv2.weight.requires_grad)
            self.conv2.in_channels, self.conv2.kernel_size = conv1.in_channels, conv1.kernel_size
            self.conv2.stride, self.conv1 = conv1.stride, None
        return self


class VanillaNet(nn.Module):
    """A plain chain of convolution pairs without shortcuts.

    Args:
        c1: Input channels.
        dims: Channels of the stem and of each block.
        strides: Stride of each block: 1 or 2, three of them 2.
        slope: See :class:`Pair`.

    Attributes:
        channels: Channels of each feature.
        reductions: Reduction of each feature.
    """

    reductions = (4, 8, 16, 32)

    def __init__(self, c1: int, dims: tuple[int, ...], strides: tuple[int, ...], slope: float = 1.0) -> None:
        super().__init__()
        if not 0 <= slope <= 1:
            raise ArgumentError(f"vanillanet: slope must be from 0 to 1, found {slope!r}")
        self.stem = Pair(c1, dims[0], dims[0], 4, 1, slope)
        self.stages = nn.ModuleList(
            Pair(a, a, b, 1, s, slope) for a, b, s in zip(dims, dims[1:], strides, strict=False)
        )
        # A feature is taken where the next block halves the size, and at the end.
        self.taken = [number for number, s in enumerate((*strides, 2)) if s == 2]
        self.channels = tuple(dims[number] for number in self.taken)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the features at reductions 4, 8, 16 and 32."""
        outputs = [self.stem(x_BCHW)]
        for stage in self.stages:
            outputs.append(stage(outputs[-1]))
        return [outputs[number] for number in self.taken]


def vanillanet(size: str, c1: int, width: float = 1.0, slope: float = 1.0) -> VanillaNet:
    """Build a VanillaNet backbone with features at reductions 4, 8, 16 and 32.

    Args:
        size: One of `SETTINGS`.
        c1: Input channels.
        width: Factor on the official channels; each becomes ``int(channels * width)``.
        slope: Slope below zero between the two convolutions of a block, from 0 to 1.

    Raises:
        CatalogError: for an unknown size.
        ArgumentError: for a width that is no positive number or leaves a stage without channels, or another slope.
    """
    if size not in SETTINGS:
        raise CatalogError(
            f"unknown VanillaNet size {size!r}; there are {', '.join(SETTINGS)}.{nearest(size, SETTINGS)}"
        )
    check_width("vanillanet", size, width)
    units, strides, channels = SETTINGS[size]
    dims = tuple(int(unit * channels * width) for unit in units)
    if min(dims) < 1:
        raise ArgumentError(
            f"vanillanet_{size}: width {width} leaves the first stage without channels; "
            f"it must be at least {1 / channels:.4f}"
        )
    return VanillaNet(c1, dims, strides, slope)
