"""Convolution, batch norm and activation: the unit that the other blocks are made of.

Paper: none; this is the usual unit of the YOLO family.
Source: ultralytics/ultralytics, ``nn/modules/conv.py`` (AGPL-3.0); only the behaviour and the names of the state-dict
keys are followed. No weights.
Differences: folding the batch norm keeps the module and its ``forward``; ``bn`` becomes an identity.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.fusing import fold_batch_norm, holds_weight


def autopad(k: int, p: int | None = None, d: int = 1) -> int:
    """Return the padding that keeps the size at stride 1 (odd kernels), or ``p`` where it is given.

    Args:
        k: Kernel size in pixels.
        p: Explicit padding in pixels.
        d: Dilation.
    """
    return (d * (k - 1) + 1) // 2 if p is None else p


class ConvNormAct(nn.Module):
    """Convolution without bias, batch norm, activation.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size, or height and width of it.
        s: Stride.
        p: Padding; by default what keeps the size at stride 1.
        g: Groups.
        d: Dilation.
        act: ``True`` for SiLU, ``False`` for none, or a module.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int | tuple[int, int] = 1,
        s: int = 1,
        p: int | None = None,
        g: int = 1,
        d: int = 1,
        act: bool | nn.Module = True,
    ) -> None:
        super().__init__()
        height, width = (k, k) if isinstance(k, int) else k
        padding = (autopad(height, p, d), autopad(width, p, d))
        self.conv = nn.Conv2d(c1, c2, k, s, padding, groups=g, dilation=d, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(c2)
        self.act = activation(act)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, c1, H, W)`` to ``(B, c2, H', W')``."""
        y: Tensor = self.act(self.bn(self.conv(x_BCHW)))
        return y

    def fuse(self) -> ConvNormAct:
        """Fold the batch norm into the convolution in place; a second call changes nothing."""
        if isinstance(self.bn, nn.BatchNorm2d) and holds_weight(self.conv):
            weight, bias = fold_batch_norm(self.conv.weight, self.bn)
            with torch.no_grad():
                self.conv.weight.copy_(weight)
            self.conv.bias = nn.Parameter(bias, requires_grad=self.conv.weight.requires_grad)
            self.bn = nn.Identity()
        return self


def activation(act: bool | nn.Module) -> nn.Module:
    """Return SiLU for ``True``, an identity for ``False``, or the module that was given."""
    if isinstance(act, nn.Module):
        return act
    return nn.SiLU() if act else nn.Identity()
