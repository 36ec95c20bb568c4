"""SDI: semantics and details joined by a product over all levels.

Paper: "U-Net v2: Rethinking the Skip Connections of U-Net for Medical Image Segmentation", ISBI 2025 (arXiv 2311.17791;
section 2.2, semantics and detail infusion).
Official source: github.com/yaoppeng/U-Net_v2, PolypSeg/unet_v2/UNet_v2.py, run for its numbers at commit
8a43be26b375e6600148a96d8c911f0ed5fefa26. The repository has no licence, so no line is used. No weights are used.

Differences: each input has its own channels and brings them to the output's in its 3x3 convolution (officially all
have 32 by then); height and width are looked at, not the width alone; any number of inputs.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.joining import require_inputs, shrink


class SDI(nn.Module):
    """Bring every input to the first one's size, convolve each, multiply them.

    Args:
        channels: Channels of each input; the first one's size is the output's.
        c2: Output channels.

    Raises:
        ArgumentError: Fewer than two inputs, or a value below 1.
    """

    def __init__(self, channels: list[int], c2: int) -> None:
        super().__init__()
        inputs = require_inputs("SDI", channels)
        require_positive("SDI", c2=c2)
        self.convs = nn.ModuleList(nn.Conv2d(c1, c2, 3, padding=1) for c1 in inputs)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return ``(B, c2, H, W)`` at the first input's size."""
        height, width = inputs[0].shape[2:]
        terms = [conv(_resized(x, height, width)) for conv, x in zip(self.convs, inputs, strict=True)]
        return torch.stack(terms).prod(0)


def _resized(x_BCHW: Tensor, height: int, width: int) -> Tensor:
    if x_BCHW.shape[2] >= height and x_BCHW.shape[3] >= width:
        return shrink(x_BCHW, (height, width), average=True)
    return F.interpolate(x_BCHW, (height, width), mode="bilinear", align_corners=True)
