"""RepViT's block, alone: a re-parameterised depthwise convolution, squeeze and excitation, a residual channel mixer.

Paper: "RepViT: Revisiting Mobile CNN From ViT Perspective", CVPR 2024.
Official source: github.com/THU-MIG/RepViT, model/repvit.py (``RepViTBlock`` of stride 1), read at commit
298f42075eda5d2e6102559fad260c970769d34e. Licence: Apache-2.0. No weights are used.

Differences: squeeze and excitation keeps a quarter of the channels, which the official code rounds to a multiple of 8.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.parts.fusing import batch_norm_affine, holds_weight
from detgraft.blocks.se import SE


class RepDepthwise(nn.Module):
    """Depthwise 3x3 with batch norm, depthwise 1x1 and the input, added; a batch norm behind the sum.

    Args:
        c1: Input channels; the output has as many.
    """

    def __init__(self, c1: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(c1, c1, 3, g=c1, act=False)
        self.conv1: nn.Conv2d | None = nn.Conv2d(c1, c1, 1, groups=c1)
        self.bn: nn.Module = nn.BatchNorm2d(c1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        y: Tensor = self.conv(x_BCHW)
        if self.conv1 is not None:
            y = y + self.conv1(x_BCHW) + x_BCHW
        normed: Tensor = self.bn(y)
        return normed

    @torch.no_grad()
    def fuse(self) -> RepDepthwise:
        """Turn everything into the one convolution ``conv.conv``, in place; idempotent."""
        conv, point, norm = self.conv.conv, self.conv1, self.bn
        if point is None or not isinstance(norm, nn.BatchNorm2d) or not holds_weight(conv):
            return self
        self.conv.fuse()
        assert conv.bias is not None
        assert point.bias is not None
        scale_C, shift_C = batch_norm_affine(norm)
        weight = conv.weight + F.pad(point.weight + 1, [1] * 4)
        conv.weight.copy_(weight * scale_C[:, None, None, None])
        conv.bias.copy_((conv.bias + point.bias) * scale_C + shift_C)
        self.conv1, self.bn = None, nn.Identity()
        return self


class RepViTBlock(nn.Module):
    """Token mixer, then a residual channel mixer of two 1x1 convolutions with batch norms around GELU.

    Args:
        c1: Input channels; the output has as many.
        se: Whether squeeze and excitation stands behind the token mixer, as in every second official block.

    Raises:
        ArgumentError: ``c1`` is below 1.
    """

    def __init__(self, c1: int, se: bool = True) -> None:
        super().__init__()
        require_positive("RepViTBlock", c1=c1)
        self.token_mixer = RepDepthwise(c1)
        self.se: nn.Module = SE(c1, 4) if se else nn.Identity()
        self.expand = ConvNormAct(c1, 2 * c1, 1, act=nn.GELU())
        self.reduce = ConvNormAct(2 * c1, c1, 1, act=False)
        assert isinstance(self.reduce.bn, nn.BatchNorm2d)
        nn.init.zeros_(self.reduce.bn.weight)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        mixed = self.se(self.token_mixer(x_BCHW))
        y: Tensor = mixed + self.reduce(self.expand(mixed))
        return y

    def fuse(self) -> RepViTBlock:
        """Fold the batch norms and the branches of the token mixer, in place; idempotent."""
        for unit in (self.token_mixer, self.expand, self.reduce):
            unit.fuse()
        return self
