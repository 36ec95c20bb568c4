"""WTConv: a depthwise convolution in the wavelet domain, which sees far with small kernels.

Paper: "Wavelet Convolutions for Large Receptive Fields", ECCV 2024.
Official source: github.com/BGU-CS-VIL/WTConv, wtconv/wtconv2d.py, read at commit
4a84da2218924b3973de2235d641f2ecf969c346. Licence: MIT. No weights are used.
Two forms: ``WTConv2d`` is the official depthwise module; ``WTConv`` has a 1x1 convolution, a batch norm and SiLU behind
it, as the official example of a depthwise separable convolution, so that it can stand for a convolution.

Differences: the Haar wavelet only (the official default), as sums of shifted pixels without a wavelet package; the
scales are vectors.

Shape suffixes: B batch, C channels, D four bands of each channel, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.dynamic_conv import batch_may_vary
from detgraft.blocks.hwd import haar
from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.errors import ArgumentError


class Scaled(nn.Module):
    """A depthwise convolution that keeps the size, and a factor per channel behind it.

    Args:
        channels: Channels.
        k: Kernel size, odd.
        scale: Value at which the factors start.
        bias: Whether the convolution has a bias.
    """

    def __init__(self, channels: int, k: int, scale: float, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, k, padding=k // 2, groups=channels, bias=bias)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the convolved and scaled input, shape unchanged."""
        y: Tensor = self.conv(x_BCHW) * self.scale.reshape(-1, 1, 1)
        return y


class WTConv2d(nn.Module):
    """Add to a depthwise convolution what small kernels see in each level of a wavelet transform.

    Args:
        c1: Input channels; the output has as many.
        k: Kernel size, odd.
        s: Stride.
        levels: Levels of the transform.

    Raises:
        ArgumentError: A value is below 1, or ``k`` is even.
    """

    def __init__(self, c1: int, k: int = 5, s: int = 1, levels: int = 1) -> None:
        super().__init__()
        require_positive("WTConv", c1=c1, k=k, s=s, levels=levels)
        if k % 2 == 0:
            raise ArgumentError(f"WTConv: k must be odd, found {k}")
        self.s = s
        self.base = Scaled(c1, k, 1.0, True)
        self.levels = nn.ModuleList(Scaled(4 * c1, k, 0.1, False) for _ in range(levels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, ceil(height / s), ceil(width / s))."""
        low_BCHW, sizes, bands = x_BCHW, [], []
        for level in self.levels:
            sizes.append(low_BCHW.shape[2:])
            right, bottom = low_BCHW.shape[3] % 2, low_BCHW.shape[2] % 2
            if batch_may_vary() or right or bottom:  # an exported graph may see other sizes than the example
                low_BCHW = F.pad(low_BCHW, (0, right, 0, bottom))
            parts = haar(low_BCHW)
            bands.append(level(torch.stack(parts, 2).flatten(1, 2)))
            low_BCHW = parts[0]
        coarser: Tensor | None = None
        for (height, width), band_BDHW in zip(reversed(sizes), reversed(bands), strict=True):
            total, rows, columns, both = band_BDHW.unflatten(1, (-1, 4)).unbind(2)
            total = total if coarser is None else total + coarser
            coarser = unhaar(total, rows, columns, both)[:, :, :height, :width]
        y: Tensor = self.base(x_BCHW)
        if coarser is not None:
            y = y + coarser
        return y if self.s == 1 else y[:, :, :: self.s, :: self.s]


class WTConv(nn.Module):
    """Depthwise wavelet convolution, 1x1 convolution, batch norm, activation.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size, odd.
        s: Stride.
        levels: Levels of the transform; each doubles what a kernel sees.
        act: Apply SiLU behind the norm.

    Raises:
        ArgumentError: A value is below 1, or ``k`` is even.
    """

    def __init__(self, c1: int, c2: int, k: int = 5, s: int = 1, levels: int = 1, act: bool = True) -> None:
        super().__init__()
        require_positive("WTConv", c2=c2)
        self.spatial = WTConv2d(c1, k, s, levels)
        self.mix = ConvNormAct(c1, c2, 1, act=act)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, ceil(height / s), ceil(width / s))."""
        y: Tensor = self.mix(self.spatial(x_BCHW))
        return y

    def fuse(self) -> WTConv:
        """Fold the batch norm into the convolution in front of it, in place; idempotent."""
        self.mix.fuse()
        return self


def unhaar(total: Tensor, rows: Tensor, columns: Tensor, both: Tensor) -> Tensor:
    """Return the picture whose Haar coefficients are given; turns back :func:`detgraft.blocks.hwd.haar`.

    Args:
        total: The means (times 2), shape (batch, channels, height, width).
        rows: Differences between the rows of each square.
        columns: Differences between its columns.
        both: Differences along its diagonals.

    Returns:
        Shape (batch, channels, 2 * height, 2 * width).
    """
    top, bottom = total + rows, total - rows
    left, right = columns + both, columns - both
    squares = torch.stack((top + left, top - left, bottom + right, bottom - right), 2) / 2
    return F.pixel_shuffle(squares.flatten(1, 2), 2)
