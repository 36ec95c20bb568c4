"""ECA and MLCA: one factor per channel, from the channels beside it; MLCA asks a grid of patches as well.

Paper: "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", CVPR 2020 (ECA); "Mixed local
channel attention for object detection", Engineering Applications of Artificial Intelligence 2023 (MLCA).
Official source: github.com/BangguWu/ECANet, models/eca_module.py, read at commit
b332f6b3e6e2afe8a3287dc8ee8440a0fbec74c4, licence MIT; github.com/wandahangFY/MLCA, MLCA.py, read at commit
afbeb47a0f140b7ac446405218ac5d993931db28, licence GPL-3.0, of which no line is used. No weights are used.

Differences: ECA's kernel follows from the channels by the paper's formula unless it is given (the official module takes
3 by default). MLCA pools and spreads by products with matrices made from the picture's size, which gives the same
numbers and exports to ONNX for any size, which adaptive pooling does not.

Shape suffixes: B batch, C channels, H height, W width, G cells of a grid's side.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.errors import ArgumentError


def kernel_for(channels: int, gamma: int = 2, b: int = 1) -> int:
    """Return ECA's kernel size for a number of channels: ``(log2(channels) + b) / gamma``, made odd."""
    size = int(abs((math.log2(channels) + b) / gamma))
    return size if size % 2 else size + 1


class ECA(nn.Module):
    """Weigh each channel by a convolution over the means of the channels beside it.

    Args:
        c1: Input channels; the output has as many.
        k: Kernel size, odd; None lets it follow from the channels.

    Raises:
        ArgumentError: A value is below 1, or ``k`` is even.
    """

    def __init__(self, c1: int, k: int | None = None) -> None:
        super().__init__()
        require_positive("ECA", c1=c1, k=k)
        if k is not None and k % 2 == 0:
            raise ArgumentError(f"ECA: k must be odd, found {k}")
        size = k or kernel_for(c1)
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the weighted input, shape unchanged."""
        mean_B1C = x_BCHW.mean((2, 3))[:, None]
        y: Tensor = x_BCHW * self.conv(mean_B1C).sigmoid().transpose(1, 2)[..., None]
        return y


class MLCA(nn.Module):
    """Weigh channels and patches: the channels beside it, and in each cell of a grid the cells and channels beside it.

    Args:
        c1: Input channels; the output has as many.
        cells: Side of the grid.
        local_weight: Share of the local factor from 0 to 1; the global one has the rest.

    Raises:
        ArgumentError: A value is below 1, or the share is outside 0 to 1.
    """

    def __init__(self, c1: int, cells: int = 5, local_weight: float = 0.5) -> None:
        super().__init__()
        require_positive("MLCA", c1=c1, cells=cells)
        if not 0 <= local_weight <= 1:
            raise ArgumentError(f"MLCA: local_weight must be from 0 to 1, found {local_weight!r}")
        size = kernel_for(c1)
        self.cells, self.local_weight = cells, local_weight
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)
        self.conv_local = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the weighted input, shape unchanged."""
        batch, channels, height, width = x_BCHW.shape
        rows_HG, columns_WG = (_means(self.cells, n, x_BCHW) for n in (height, width))
        grid_BCGG = rows_HG.t() @ x_BCHW @ columns_WG
        line_B1N = grid_BCGG.flatten(2).transpose(1, 2).reshape(batch, 1, -1)  # cell after cell, all channels of each
        local_BNC = self.conv_local(line_B1N).reshape(batch, self.cells * self.cells, channels)
        local_BCGG = local_BNC.transpose(1, 2).reshape(grid_BCGG.shape).sigmoid()
        mean_B1C = grid_BCGG.mean((2, 3))[:, None]
        total_BC11 = self.conv(mean_B1C).sigmoid().transpose(1, 2)[..., None]
        factor_BCGG = total_BC11 * (1 - self.local_weight) + local_BCGG * self.local_weight
        spread_GH, spread_GW = (_means(n, self.cells, x_BCHW) for n in (height, width))
        y: Tensor = x_BCHW * (spread_GH.t() @ factor_BCGG @ spread_GW)
        return y


def _means(parts: int, length: int, like: Tensor) -> Tensor:
    """Return the matrix, shape (length, parts), whose columns average over one of ``parts`` equal stretches.

    Stretches that do not divide the length overlap, as in PyTorch's adaptive pooling.
    """
    part = torch.arange(parts, device=like.device)
    place = torch.arange(length, device=like.device)[:, None]
    begin, end = part * length // parts, ((part + 1) * length + parts - 1) // parts
    inside = ((place >= begin) & (place < end)).to(torch.float32)
    return (inside / inside.sum(0, keepdim=True)).to(like.dtype)
