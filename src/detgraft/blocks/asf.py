"""ASF-YOLO's parts: scale sequence fusion, triple feature encoding, and the attention that joins both.

Paper: "ASF-YOLO: A novel YOLO model with attentional scale sequence fusion for cell instance segmentation", Image and
Vision Computing 2024 (sections 3.2 SSFF, 3.3 TFE, 3.4 CPAM).
Official source: github.com/mkang315/ASF-YOLO, models/common.py, run for its numbers at commit
0eb19c17243b13806173cc09a05b290c97657e7a. Licence: AGPL-3.0, of which no line is used. No weights are used.

Differences: the 3D convolution of one pixel and one scale, its batch norm and the pooling over the scales are written
as a 1x1 convolution over all scales of a batch and a maximum, which gives the same numbers and exports everywhere.
``ScalSeq`` takes any number of scales and projects the first, too, where its channels differ from the output's;
officially they must be equal. ``Zoom_cat`` pools by whole factors as adaptive pooling does. ``CPAM`` projects inputs
with other channels and keeps at least one hidden channel.

Shape suffixes: B batch, S scales, C channels, M hidden channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.eca import ECA
from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.parts.joining import fold_norms, projections, require_inputs, require_same_size, shrink


class ScalSeq(nn.Module):
    """Scale sequence feature fusion: the same convolution over all scales at the finest one's size, then the maximum.

    Args:
        channels: Channels of each input, the finest one first.
        c2: Output channels.

    Raises:
        ArgumentError: Fewer than two inputs, or a value below 1.
    """

    def __init__(self, channels: list[int], c2: int) -> None:
        super().__init__()
        first, *others = require_inputs("ScalSeq", channels)
        require_positive("ScalSeq", c2=c2)
        self.project = nn.ModuleList([nn.Identity() if first == c2 else ConvNormAct(first, c2)])
        self.project.extend(ConvNormAct(c1, c2) for c1 in others)
        self.mix = ConvNormAct(c2, c2, act=nn.LeakyReLU(0.1))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return ``(B, c2, H, W)`` at the first input's size."""
        finest = inputs[0]
        scales = [project(x) for project, x in zip(self.project, inputs, strict=True)]
        scales = [scales[0], *(F.interpolate(x, finest.shape[2:], mode="nearest") for x in scales[1:])]
        sequence = self.mix(torch.cat(scales))
        y: Tensor = torch.stack(sequence.chunk(len(scales))).amax(0)
        return y

    def fuse(self) -> ScalSeq:
        """Fold the batch norms, in place; idempotent."""
        fold_norms(self)
        return self


class Zoom_cat(nn.Module):
    """Triple feature encoding: a larger and a smaller map brought to the middle one's size and joined with it.

    Args:
        channels: Channels of the larger, the middle and the smaller input; the output has their sum.

    Raises:
        ArgumentError: Not three inputs, or a value below 1.
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        require_inputs("Zoom_cat", channels, 3, 3)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return ``(B, sum of channels, H, W)`` at the middle input's size."""
        large, middle, small = inputs
        height, width = middle.shape[2:]
        pooled = shrink(large, (height, width), average=False) + shrink(large, (height, width), average=True)
        return torch.cat((pooled, middle, F.interpolate(small, (height, width), mode="nearest")), 1)


class CPAM(nn.Module):
    """Channel and position attention: one input's channels are weighed, then rows and columns of the sum of both.

    Args:
        channels: Channels of the detailed feature and of the fused one.
        c2: Output channels.
        reduction: Factor between the channels and the hidden ones of the position attention.

    Raises:
        ArgumentError: Not two inputs, or a value below 1.
    """

    def __init__(self, channels: list[int], c2: int, reduction: int = 16) -> None:
        super().__init__()
        inputs = require_inputs("CPAM", channels, 2, 2)
        require_positive("CPAM", c2=c2, reduction=reduction)
        hidden = max(c2 // reduction, 1)
        self.project = projections(inputs, c2)
        self.channel = ECA(c2)
        self.squeeze = ConvNormAct(c2, hidden, act=nn.ReLU())
        self.rows = nn.Conv2d(hidden, c2, 1, bias=False)
        self.columns = nn.Conv2d(hidden, c2, 1, bias=False)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return ``(B, c2, H, W)`` for two inputs of one height and width.

        Raises:
            ArgumentError: Their sizes differ.
        """
        require_same_size("CPAM", inputs)
        detailed, fused = (project(x) for project, x in zip(self.project, inputs, strict=True))
        x_BCHW = self.channel(detailed) + fused
        rows_BCH1 = x_BCHW.mean(3, keepdim=True)
        columns_BCW1 = x_BCHW.mean(2, keepdim=True).transpose(2, 3)
        strips = self.squeeze(torch.cat((rows_BCH1, columns_BCW1), 2))
        rows_BMH1, columns_BMW1 = strips.split((x_BCHW.shape[2], x_BCHW.shape[3]), 2)
        weight_BC1W = self.columns(columns_BMW1.transpose(2, 3)).sigmoid()
        y: Tensor = x_BCHW * self.rows(rows_BMH1).sigmoid() * weight_BC1W
        return y

    def fuse(self) -> CPAM:
        """Fold the batch norms, in place; idempotent."""
        fold_norms(self)
        return self
