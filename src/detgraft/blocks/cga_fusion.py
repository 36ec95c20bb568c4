"""CGAFusion: two features mixed by a weight for each pixel and channel, which their sum decides.

Paper: "DEA-Net: Single image dehazing based on detail-enhanced convolution and content-guided attention", IEEE
Transactions on Image Processing 2024 (section III-C, content-guided attention, and III-D, its mixup fusion).
Official source: github.com/cecret3350/DEA-Net, code/model/modules/fusion.py and cga.py, run for its numbers at commit
599d4d5533325aec0ceca81e661f3eeb2b0619e8. The repository has no licence, so no line is used. No weights are used.

Differences: inputs with other channels than the output are projected by a 1x1 convolution and batch norm first; at
least one hidden channel is kept; a side of up to three pixels, which cannot be mirrored by three, is padded by its
border.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.joining import fold_norms, projections, require_inputs, require_same_size
from detgraft.kernels.recording import is_traced

_PADDING = 3


def mirrored(x_BCHW: Tensor) -> Tensor:
    """Return the map with three more pixels on each side, mirrored without its border; a short side repeats that.

    A recorded graph looks up where each pixel comes from, since the way that fits its example's size would stay in it.
    """
    if is_traced():
        return x_BCHW.index_select(2, _sources(x_BCHW, 2)).index_select(3, _sources(x_BCHW, 3))
    for dimension, pad in ((3, (_PADDING, _PADDING, 0, 0)), (2, (0, 0, _PADDING, _PADDING))):
        x_BCHW = F.pad(x_BCHW, pad, "reflect" if x_BCHW.shape[dimension] > _PADDING else "replicate")
    return x_BCHW


def _sources(x_BCHW: Tensor, dimension: int) -> Tensor:
    """Where each place of a padded side is read, for a side that is only known when the graph runs."""
    side = x_BCHW.shape[dimension]
    places = torch.arange(-_PADDING, side + _PADDING, device=x_BCHW.device)
    last = places * 0 + (side - 1)
    there = torch.maximum(places, -places)  # no abs: OpenVINO 2026.4 leaves whole numbers below 0 as they are
    back = torch.minimum(there, 2 * last - there)
    return torch.where(last >= _PADDING, back, torch.minimum(places.clamp(min=0), last))


class CGAFusion(nn.Module):
    """Mix two features by content-guided attention.

    Args:
        channels: Channels of both inputs.
        c2: Output channels.
        reduction: Factor between the channels and the hidden ones of the channel attention.

    Raises:
        ArgumentError: Not two inputs, or a value below 1.
    """

    def __init__(self, channels: list[int], c2: int, reduction: int = 8) -> None:
        super().__init__()
        inputs = require_inputs("CGAFusion", channels, 2, 2)
        require_positive("CGAFusion", c2=c2, reduction=reduction)
        hidden = max(c2 // reduction, 1)
        self.project = projections(inputs, c2)
        self.spatial = nn.Conv2d(2, 1, 7)
        self.squeeze = nn.Conv2d(c2, hidden, 1)
        self.excite = nn.Conv2d(hidden, c2, 1)
        self.pixel = nn.Conv2d(2 * c2, c2, 7, groups=c2)
        self.out = nn.Conv2d(c2, c2, 1)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return ``(B, c2, H, W)`` for two inputs of one height and width.

        Raises:
            ArgumentError: Their sizes differ.
        """
        require_same_size("CGAFusion", inputs)
        one_BCHW, other_BCHW = (project(x) for project, x in zip(self.project, inputs, strict=True))
        both_BCHW = one_BCHW + other_BCHW
        weight_BCHW = self._weight(both_BCHW)
        y: Tensor = self.out(both_BCHW + weight_BCHW * one_BCHW + (1 - weight_BCHW) * other_BCHW)
        return y

    def _weight(self, both_BCHW: Tensor) -> Tensor:
        """A coarse weight from channels and places, refined beside the feature itself, channel by channel."""
        views_B2HW = torch.cat((both_BCHW.mean(1, keepdim=True), both_BCHW.amax(1, keepdim=True)), 1)
        places_B1HW = self.spatial(mirrored(views_B2HW))
        channels_BC11 = self.excite(self.squeeze(both_BCHW.mean((2, 3), keepdim=True)).relu())
        pairs = torch.stack((both_BCHW, places_B1HW + channels_BC11), 2).flatten(1, 2)  # each channel beside its weight
        # Twice, as officially: the refining step ends in a sigmoid of its own.
        y: Tensor = self.pixel(mirrored(pairs)).sigmoid().sigmoid()
        return y

    def fuse(self) -> CGAFusion:
        """Fold the batch norms of the projections, in place; idempotent."""
        fold_norms(self)
        return self
