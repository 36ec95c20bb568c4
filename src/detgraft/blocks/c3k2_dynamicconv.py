"""C3k2_DynamicConv: YOLO11's C3k2 with a `DynamicConv` as the second convolution of every bottleneck.

Paper: ParameterNet (arXiv 2306.14525) for the convolution; C3k2 is YOLO11's cross-stage block.
Source: huawei-noah/Efficient-AI-Backbones ``parameternet_pytorch`` (BSD-3-Clause) and ultralytics/ultralytics
``nn/modules/block.py`` (AGPL-3.0); own code, the state-dict keys are those of the tutorial. No weights.
Two forms: in the tutorial's, ``C3k2_DynamicConv``, the dynamic convolution has neither norm nor activation;
``C3k2_DynamicConvBNAct`` gives it both, as the official unit has.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.dynamic_conv import DynamicConv, DynamicConvBNAct
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.parts.fusing import fuse_tree


class DynamicBottleneck(nn.Module):
    """A convolution and a dynamic convolution, both 3x3, with a shortcut where the channels allow it.

    Args:
        c1: Input channels.
        c2: Output channels.
        shortcut: Add the input when ``c1 == c2``.
        g: Groups of the dynamic convolution.
        e: Hidden channels as a share of ``c2``.
        official: Norm and activation after the dynamic convolution.
    """

    def __init__(
        self, c1: int, c2: int, shortcut: bool = True, g: int = 1, e: float = 0.5, official: bool = False
    ) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = ConvNormAct(c1, hidden, k=3)
        self.cv2: nn.Module = (DynamicConvBNAct if official else DynamicConv)(hidden, c2, k=3, g=g)
        self.add = shortcut and c1 == c2

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, c1, H, W)`` to ``(B, c2, H, W)``."""
        y: Tensor = self.cv2(self.cv1(x_BCHW))
        return x_BCHW + y if self.add else y


class DynamicC3k(nn.Module):
    """Two branches over ``c2 / 2`` channels, one of them through a chain of bottlenecks, joined by a 1x1 convolution.

    Args:
        c1: Input channels.
        c2: Output channels.
        n: Bottlenecks in the chain.
        shortcut: See `DynamicBottleneck`.
        g: Groups.
        official: See `DynamicBottleneck`.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, official: bool = False) -> None:
        super().__init__()
        hidden = c2 // 2
        self.cv1 = ConvNormAct(c1, hidden)
        self.cv2 = ConvNormAct(c1, hidden)
        self.cv3 = ConvNormAct(2 * hidden, c2)
        self.m = nn.Sequential(
            *(DynamicBottleneck(hidden, hidden, shortcut, g, e=1.0, official=official) for _ in range(n))
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, c1, H, W)`` to ``(B, c2, H, W)``."""
        y: Tensor = self.cv3(torch.cat((self.m(self.cv1(x_BCHW)), self.cv2(x_BCHW)), dim=1))
        return y


class C3k2_DynamicConv(nn.Module):
    """C3k2 with dynamic convolutions, the tutorial's form.

    Args:
        c1: Input channels.
        c2: Output channels.
        n: Units in the chain.
        c3k: Make each unit a `DynamicC3k` with two bottlenecks instead of one bottleneck.
        e: Hidden channels as a share of ``c2``.
        g: Groups of the dynamic convolutions.
        shortcut: Add each bottleneck's input to its output.
    """

    official = False

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        c3k: bool = False,
        e: float = 0.5,
        g: int = 1,
        shortcut: bool = True,
    ) -> None:
        super().__init__()
        self.c = int(c2 * e)
        self.cv1 = ConvNormAct(c1, 2 * self.c)
        self.cv2 = ConvNormAct((2 + n) * self.c, c2)
        self.m = nn.ModuleList(
            DynamicC3k(self.c, self.c, 2, shortcut, g, self.official)
            if c3k
            else DynamicBottleneck(self.c, self.c, shortcut, g, official=self.official)
            for _ in range(n)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, c1, H, W)`` to ``(B, c2, H, W)``."""
        parts = list(self.cv1(x_BCHW).split(self.c, dim=1))
        for unit in self.m:
            parts.append(unit(parts[-1]))
        y: Tensor = self.cv2(torch.cat(parts, dim=1))
        return y

    def fuse(self) -> C3k2_DynamicConv:
        """Fold every batch norm in place."""
        fuse_tree(self)
        return self


class C3k2_DynamicConvBNAct(C3k2_DynamicConv):
    """C3k2 with dynamic convolutions, each followed by batch norm and SiLU as in the official unit.

    The arguments are those of `C3k2_DynamicConv`.
    """

    official = True
