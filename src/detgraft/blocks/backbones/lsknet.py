"""LSKNet backbones: two sizes, with a width factor.

Paper: "Large Selective Kernel Network for Remote Sensing Object Detection", ICCV 2023.
Official source: github.com/zcablii/LSKNet, mmrotate/models/backbones/lsknet.py, read at commit
cbe06cabcb0be0dd94ee48b8ffcd12a9f95c85ad. Licence: CC-BY-NC-4.0, of which no line is used: what stands here is written
from the paper. None of the published weights are loaded here.
Differences: a factor on the widths; no dropout and no drop path. A feature is a stage's output behind a layer norm, as
in the official code.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.backbones.repvit import Four
from detgraft.blocks.backbones.unireplknet import scaled
from detgraft.blocks.lsk_block import LSKBlock
from detgraft.blocks.parts.fusing import batch_norm_affine, fold_batch_norm, holds_weight
from detgraft.blocks.parts.norms import ChannelNorm, as_convolution, fold_in_front
from detgraft.errors import CatalogError, nearest

# Channels and blocks per stage.
SETTINGS: dict[str, tuple[Four, Four]] = {
    "t": ((32, 64, 160, 256), (3, 3, 5, 2)),
    "s": ((64, 128, 320, 512), (2, 2, 4, 2)),
}
RATIOS: Four = (8, 8, 4, 4)
"""Hidden channels of each stage's convolutional perceptron, as a multiple of its channels."""


class Embedding(nn.Module):
    """Convolution with stride and bias, then a batch norm.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size, odd.
        s: Stride.
    """

    def __init__(self, c1: int, c2: int, k: int, s: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(c1, c2, k, s, k // 2)
        self.norm: nn.Module = nn.BatchNorm2d(c2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, height / s, width / s)."""
        y: Tensor = self.norm(self.proj(x_BCHW))
        return y

    @torch.no_grad()
    def fuse(self) -> Embedding:
        """Fold the batch norm into the convolution, in place; idempotent."""
        if isinstance(self.norm, nn.BatchNorm2d) and holds_weight(self.proj):
            fold_behind(self.proj, self.norm)
            self.norm = nn.Identity()
        return self


class LSKNetBlock(nn.Module):
    """Selective attention between two projections, then a perceptron with a depthwise convolution; both scaled.

    Args:
        c1: Input channels, even; the output has as many.
        ratio: Hidden channels of the perceptron as a multiple of ``c1``.
        scale: Value at which the layer scales start.
    """

    def __init__(self, c1: int, ratio: int, scale: float = 1e-2) -> None:
        super().__init__()
        hidden = c1 * ratio
        self.norm1: nn.Module = nn.BatchNorm2d(c1)
        self.proj_1 = nn.Conv2d(c1, c1, 1)
        self.act = nn.GELU()
        self.spatial_gating_unit = LSKBlock(c1)
        self.proj_2 = nn.Conv2d(c1, c1, 1)
        self.layer_scale_1 = nn.Parameter(torch.full((c1,), scale))
        self.norm2: nn.Module = nn.BatchNorm2d(c1)
        self.fc1 = nn.Conv2d(c1, hidden, 1)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Conv2d(hidden, c1, 1)
        self.layer_scale_2 = nn.Parameter(torch.full((c1,), scale))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        normed = self.norm1(x_BCHW)
        attended = normed + self.proj_2(self.spatial_gating_unit(self.act(self.proj_1(normed))))
        x_BCHW = x_BCHW + attended * self.layer_scale_1[:, None, None]
        mixed = self.fc2(self.act(self.dwconv(self.fc1(self.norm2(x_BCHW)))))
        y: Tensor = x_BCHW + mixed * self.layer_scale_2[:, None, None]
        return y

    def fuse(self) -> LSKNetBlock:
        """Fold the second batch norm and make the first, which is also added, a convolution; in place, idempotent."""
        if isinstance(self.norm1, nn.BatchNorm2d):
            self.norm1 = as_convolution(self.norm1)
        if isinstance(self.norm2, nn.BatchNorm2d) and holds_weight(self.fc1):
            fold_in_front(self.norm2, self.fc1)
            self.norm2 = nn.Identity()
        return self


class LSKNet(nn.Module):
    """Four stages of selective kernels.

    Args:
        c1: Input channels.
        dims: Channels of each stage, even.
        depths: Blocks of each stage.
        ratios: See :data:`RATIOS`.

    Attributes:
        channels: Channels of each feature.
        reductions: Reduction of each feature.
    """

    reductions = (4, 8, 16, 32)

    def __init__(self, c1: int, dims: Four, depths: Four, ratios: Four = RATIOS) -> None:
        super().__init__()
        self.channels = dims
        before = (c1, *dims[:3])
        self.embeddings = nn.ModuleList(
            Embedding(a, b, 7 if first else 3, 4 if first else 2)
            for a, b, first in zip(before, dims, (True, False, False, False), strict=True)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(LSKNetBlock(channels, ratio) for _ in range(depth)))
            for channels, ratio, depth in zip(dims, ratios, depths, strict=True)
        )
        self.norms = nn.ModuleList(ChannelNorm(channels) for channels in dims)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                fan_out = layer.weight[0, 0].numel() * layer.out_channels // layer.groups
                nn.init.normal_(layer.weight, std=(2.0 / fan_out) ** 0.5)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the features at reductions 4, 8, 16 and 32."""
        features = []
        for embedding, stage, norm in zip(self.embeddings, self.stages, self.norms, strict=True):
            x_BCHW = norm(stage(embedding(x_BCHW)))
            features.append(x_BCHW)
        return features


def lsknet(size: str, c1: int, width: float = 1.0) -> LSKNet:
    """Build an LSKNet backbone with features at reductions 4, 8, 16 and 32.

    Args:
        size: One of `SETTINGS`.
        c1: Input channels.
        width: Factor on the official channels, which are then rounded down to an even number.

    Raises:
        CatalogError: for an unknown size.
        ArgumentError: for a width that is no positive number or leaves a stage without channels.
    """
    if size not in SETTINGS:
        raise CatalogError(f"unknown LSKNet size {size!r}; there are {', '.join(SETTINGS)}.{nearest(size, SETTINGS)}")
    dims, depths = SETTINGS[size]
    return LSKNet(c1, scaled("lsknet", size, dims, width, 2), depths)


@torch.no_grad()
def fold_behind(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Fold a batch norm into the convolution with bias in front of it, in place."""
    weight, shift_C = fold_batch_norm(conv.weight, norm)
    assert conv.bias is not None
    conv.bias.copy_(conv.bias * batch_norm_affine(norm)[0] + shift_C)
    conv.weight.copy_(weight)
