"""EMA: efficient multi-scale attention with cross-spatial learning.

Paper: "Efficient Multi-Scale Attention Module with Cross-Spatial Learning", ICASSP 2023.
Official source: github.com/YOLOonMe/EMA-attention-module, file EMA_attention_module, read at commit
afc37ecf52454c03421a86105fc5c16eb4ea1ad3. The repository states no licence; what stands here is written from the
paper's description. No weights are used.

Differences: ``factor`` (the number of channel groups) is 8 by default, as YOLO users run it, where the official code
has 32; the official argument ``c2``, which does nothing there, is left out. Strip pooling is a plain mean, which
exports to ONNX for any batch. Values are the same.

Shape suffixes: N batch times groups, D channels of a group, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_multiple, require_positive


class EMA(nn.Module):
    """Weigh pixels by how two branches of each channel group, a 1x1 and a 3x3 one, agree across space.

    Args:
        c1: Input channels, a multiple of ``factor``; the output has as many.
        factor: Number of channel groups.

    Raises:
        ArgumentError: ``factor`` does not divide ``c1``.
    """

    def __init__(self, c1: int, factor: int = 8) -> None:
        super().__init__()
        require_positive("EMA", c1=c1, factor=factor)
        require_multiple("EMA", "factor", factor, c1=c1)
        width = c1 // factor
        self.width = width
        self.gn = nn.GroupNorm(width, width)
        self.conv1x1 = nn.Conv2d(width, width, 1)
        self.conv3x3 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted input, shape (batch, c1, height, width) unchanged."""
        height, width = x.shape[2], x.shape[3]
        group_NDHW = x.reshape(-1, self.width, height, width)

        rows_NDH1 = group_NDHW.mean(3, keepdim=True)
        columns_NDW1 = group_NDHW.mean(2, keepdim=True).transpose(2, 3)
        strips = self.conv1x1(torch.cat((rows_NDH1, columns_NDW1), 2)).sigmoid()
        rows_NDH1, columns_NDW1 = strips.split((height, width), 2)
        local_NDHW = self.gn(group_NDHW * rows_NDH1 * columns_NDW1.transpose(2, 3))
        wide_NDHW = self.conv3x3(group_NDHW)

        weight_N1HW = self._agreement(local_NDHW, wide_NDHW) + self._agreement(wide_NDHW, local_NDHW)
        return (group_NDHW * weight_N1HW.sigmoid()).reshape(x.shape)

    @staticmethod
    def _agreement(guide_NDHW: Tensor, other_NDHW: Tensor) -> Tensor:
        # The channels that are strong on average in one branch select a map from the other branch.
        share_ND11 = guide_NDHW.mean((2, 3), keepdim=True).softmax(1)
        return (share_ND11 * other_NDHW).sum(1, keepdim=True)
