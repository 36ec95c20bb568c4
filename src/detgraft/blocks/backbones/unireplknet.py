"""UniRepLKNet backbones: nine sizes, with a width factor.

Paper: "UniRepLKNet: A Universal Perception Large-Kernel ConvNet", CVPR 2024.
Official source: github.com/AILab-CVC/UniRepLKNet, unireplknet.py, read at commit
b5677d8fb0e7b8af61eac39c1bf02727f5afc1d5. Licence: Apache-2.0. None of the published weights are loaded here.
Differences: a factor on the widths; no drop path; no classifier. A feature is the raw output of a stage,
as with ConvNeXt V2: the layer norm that the official detection code puts behind each would learn nothing behind a
feature that a detector does not read, and fail in distributed training.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from detgraft.blocks.backbones.convnextv2 import check_width
from detgraft.blocks.backbones.repvit import Four
from detgraft.blocks.parts.norms import ChannelNorm
from detgraft.blocks.unireplk_block import UniRepLKBlock
from detgraft.errors import ArgumentError, CatalogError, nearest

Kernels = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def _kernels(depths: Four, large_every: int) -> Kernels:
    """Kernel sizes of all blocks: 3 in the first stage, 13 after it, but in the third stage only every so many."""
    first, second, third, fourth = depths
    return (
        (3,) * first,
        (13,) * second,
        tuple(13 if number % large_every == 0 else 3 for number in range(third)),
        (13,) * fourth,
    )


_SMALL, _NANO = _kernels((2, 2, 6, 2), 1), _kernels((2, 2, 8, 2), 1)
_TINY, _LARGE = _kernels((3, 3, 18, 3), 2), _kernels((3, 3, 27, 3), 3)
# Channels per stage and kernel size of each block.
SETTINGS: dict[str, tuple[Four, Kernels]] = {
    "a": ((40, 80, 160, 320), _SMALL),
    "f": ((48, 96, 192, 384), _SMALL),
    "p": ((64, 128, 256, 512), _SMALL),
    "n": ((80, 160, 320, 640), _NANO),
    "t": ((80, 160, 320, 640), _TINY),
    "s": ((96, 192, 384, 768), _LARGE),
    "b": ((128, 256, 512, 1024), _LARGE),
    "l": ((192, 384, 768, 1536), _LARGE),
    "xl": ((256, 512, 1024, 2048), _LARGE),
}


class UniRepLKNet(nn.Module):
    """Four stages of large-kernel blocks, each behind a convolution of stride 2 (the first behind two).

    Args:
        c1: Input channels.
        dims: Channels of each stage.
        kernels: Kernel size of each block, by stage.
        scale: Value at which the layer scales start.

    Attributes:
        channels: Channels of each feature.
        reductions: Reduction of each feature.
    """

    reductions = (4, 8, 16, 32)

    def __init__(self, c1: int, dims: Four, kernels: Kernels, scale: float = 1e-6) -> None:
        super().__init__()
        self.channels = dims
        first = nn.Sequential(
            nn.Conv2d(c1, dims[0] // 2, 3, 2, 1),
            ChannelNorm(dims[0] // 2),
            nn.GELU(),
            nn.Conv2d(dims[0] // 2, dims[0], 3, 2, 1),
            ChannelNorm(dims[0]),
        )
        others = (nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), ChannelNorm(b)) for a, b in itertools.pairwise(dims))
        self.downsample_layers = nn.ModuleList((first, *others))
        self.stages = nn.ModuleList(
            nn.Sequential(*(UniRepLKBlock(channels, k, scale=scale) for k in sizes))
            for channels, sizes in zip(dims, kernels, strict=True)
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the features at reductions 4, 8, 16 and 32."""
        features = []
        for down, stage in zip(self.downsample_layers, self.stages, strict=True):
            x_BCHW = stage(down(x_BCHW))
            features.append(x_BCHW)
        return features


def unireplknet(size: str, c1: int, width: float = 1.0) -> UniRepLKNet:
    """Build a UniRepLKNet backbone with features at reductions 4, 8, 16 and 32.

    Args:
        size: One of `SETTINGS`.
        c1: Input channels.
        width: Factor on the official channels; each becomes ``int(channels * width)``.

    Raises:
        CatalogError: for an unknown size.
        ArgumentError: for a width that is no positive number or leaves a stage too narrow.
    """
    if size not in SETTINGS:
        raise CatalogError(
            f"unknown UniRepLKNet size {size!r}; there are {', '.join(SETTINGS)}.{nearest(size, SETTINGS)}"
        )
    dims, kernels = SETTINGS[size]
    return UniRepLKNet(c1, scaled("unireplknet", size, dims, width, 2), kernels)


def scaled(family: str, size: str, dims: Four, width: float, multiple: int) -> Four:
    """Return the channels of four stages times a factor, rounded down to a multiple, but to at least one of it.

    Raises:
        ArgumentError: for a width that is no positive number or leaves the first stage without channels.
    """
    check_width(family, size, width)
    first, second, third, fourth = (int(channels * width) // multiple * multiple for channels in dims)
    if first < 1:
        raise ArgumentError(
            f"{family}_{size}: width {width} leaves the first stage without channels; "
            f"it must be at least {multiple / dims[0]:.4f}"
        )
    return first, second, third, fourth
