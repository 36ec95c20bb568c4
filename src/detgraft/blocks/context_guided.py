"""Context guided downsampling: local pixels and their wider surroundings, joined and weighed by the whole picture.

Paper: "CGNet: A Light-weight Context Guided Network for Semantic Segmentation", IEEE TIP 2021.
Official source: github.com/wutianyiRosun/CGNet, model/CGNet.py (``ContextGuidedBlock_Down``), read at commit
cfccea377a6f0a659e807e8759c82dbffba02d7f. Licence: MIT. No weights are used.

Differences: the fully connected layers are 1x1 convolutions; at least one hidden unit is kept. The stride is an
argument (2 in the official code).

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.parts.fusing import fold_batch_norm
from detgraft.blocks.se import SE


class ContextGuidedDown(nn.Module):
    """Halve the size with a 3x3 convolution, then join a local and a dilated depthwise view and weigh the channels.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size of the strided convolution.
        s: Stride.
        d: Dilation of the wider view.
        reduction: Ratio of channels to hidden units of the channel weights.

    Raises:
        ArgumentError: A value is below 1.
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 2, d: int = 2, reduction: int = 16) -> None:
        super().__init__()
        require_positive("ContextGuidedDown", c1=c1, c2=c2, k=k, s=s, d=d, reduction=reduction)
        self.down = ConvNormAct(c1, c2, k, s, act=nn.PReLU(c2))
        self.local = nn.Conv2d(c2, c2, 3, padding=1, groups=c2, bias=False)
        self.surrounding = nn.Conv2d(c2, c2, 3, padding=d, dilation=d, groups=c2, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(2 * c2)
        self.act = nn.PReLU(2 * c2)
        self.reduce = nn.Conv2d(2 * c2, c2, 1, bias=False)
        self.channels = SE(c2, reduction)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, ceil(height / s), ceil(width / s))."""
        small = self.down(x_BCHW)
        joined = self.act(self.bn(torch.cat((self.local(small), self.surrounding(small)), 1)))
        y: Tensor = self.channels(self.reduce(joined))
        return y

    def fuse(self) -> ContextGuidedDown:
        """Fold the batch norms into the convolutions in front of them, in place; idempotent."""
        self.down.fuse()
        if isinstance(self.bn, nn.BatchNorm2d):
            views = (self.local, self.surrounding)
            weight, bias = fold_batch_norm(torch.cat([view.weight for view in views]), self.bn)
            for view, part, shift in zip(views, weight.chunk(2), bias.chunk(2), strict=True):
                with torch.no_grad():
                    view.weight.copy_(part)
                view.bias = nn.Parameter(shift.clone(), requires_grad=view.weight.requires_grad)
            self.bn = nn.Identity()
        return self
