"""One block for each thing that `register` knows: a stock rule, presets, a module's rows, several inputs, weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import C3k2, Conv

from detgraft import register
from detgraft.catalog.spec import Provenance

HOME = Provenance(paper="none: an example", source="this package", licence="MIT")


# Its rows follow C3k2's own rule: repeats inside, c3k at scales m, l and x, the head's legacy flag.
@register("C3k2_Scaled", channels="scaled", repeats="inside", like="C3k2", provenance=HOME)
class Scaled(C3k2):
    """C3k2 with a learned factor behind it."""

    def __init__(self, c1: int, c2: int, n: int = 1, c3k: bool = False, e: float = 0.5) -> None:
        super().__init__(c1, c2, n, c3k, e)
        self.factor = nn.Parameter(torch.ones(c2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, c1, H, W)`` to ``(B, c2, H, W)``."""
        y: Tensor = super().forward(x) * self.factor
        return y


# Two names of one class; each fixes the kernel, which rows of these names cannot give. SPPF's rows are their site.
@register("Pool3", channels="scaled", preset={"kernel": 3}, site="SPPF", drops=("k",), provenance=HOME)
@register("Pool7", channels="scaled", preset={"kernel": 7}, site="SPPF", drops=("k",), provenance=HOME)
class Pool(nn.Module):
    """The mean of a window, projected."""

    def __init__(self, c1: int, c2: int, kernel: int, act: bool = True) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(kernel, 1, kernel // 2)
        self.conv = Conv(c1, c2, 1, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, c1, H, W)`` to ``(B, c2, H, W)``."""
        y: Tensor = self.conv(self.pool(x))
        return y


# Inside a stock shell, yolo11n+c3k2(windowgate), it stands behind the second convolution.
@register("WindowGate", channels="same", site="stage", at="after", provenance=HOME)
class WindowGate(nn.Module):
    """Each channel weighed by its mean."""

    def __init__(self, c1: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(c1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape."""
        return x * (x.mean((2, 3), keepdim=True) * self.scale).sigmoid()


@register("MeanFusion", channels="fuse", provenance=HOME)
class MeanFusion(nn.Module):
    """The mean of several inputs, each projected."""

    def __init__(self, channels: list[int], c2: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(Conv(c1, c2, 1) for c1 in channels)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Map inputs of one size to ``(B, c2, H, W)``."""
        return torch.stack([project(x) for project, x in zip(self.project, inputs, strict=True)]).mean(0)


# A row may name a file; its tensors have the names of this module's state dict.
@register("tinynet", channels="pyramid", takes_weights=True, provenance=HOME)
class TinyNet(nn.Module):
    """Five strided convolutions."""

    def __init__(self, c1: int, width: float = 1.0) -> None:
        super().__init__()
        self.reductions = (4, 8, 16, 32)
        self.channels = tuple(max(int(c * width), 8) for c in (32, 64, 96, 128))
        self.stem = Conv(c1, self.channels[0], 3, 2)
        pairs = zip((self.channels[0], *self.channels), self.channels, strict=False)
        self.stages = nn.ModuleList(Conv(before, after, 3, 2) for before, after in pairs)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features, finest first."""
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features
