"""Focal modulation: each pixel multiplied by a gated sum of surroundings that grow level by level.

Paper: "Focal Modulation Networks", NeurIPS 2022.
Official source: github.com/microsoft/FocalNet, classification/focalnet.py (``FocalModulation``), read at commit
e8514bdcfe1eb6e7e110403e9f2972c67dfed1c3. Licence: MIT. No weights are used.

Differences: the linear layers are 1x1 convolutions over channels that come second; no dropout and no norm behind the
modulation (both are officially off). The first layer, officially ``f``, is ``project_in``: Ultralytics' parser sets an
attribute ``f`` on every layer.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.errors import ArgumentError


class FocalModulation(nn.Module):
    """Modulate the input by depthwise contexts of growing size and by the whole picture's mean.

    Args:
        c1: Input channels; the output has as many.
        window: Kernel size of the first level, odd.
        level: Number of levels.
        factor: By how much the kernel grows per level, even.

    Raises:
        ArgumentError: A value is below 1, ``window`` is even, or ``factor`` is odd.
    """

    def __init__(self, c1: int, window: int = 3, level: int = 2, factor: int = 2) -> None:
        super().__init__()
        require_positive("FocalModulation", c1=c1, window=window, level=level, factor=factor)
        if window % 2 == 0 or factor % 2:
            raise ArgumentError(
                f"FocalModulation: window must be odd and factor even, found window={window}, factor={factor}"
            )
        self.parts = [c1, c1, level + 1]
        sizes = [window + factor * number for number in range(level)]
        self.project_in = nn.Conv2d(c1, 2 * c1 + level + 1, 1)
        self.focal_layers = nn.ModuleList(
            nn.Conv2d(c1, c1, size, padding=size // 2, groups=c1, bias=False) for size in sizes
        )
        self.act = nn.GELU()
        self.h = nn.Conv2d(c1, c1, 1)
        self.proj = nn.Conv2d(c1, c1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the modulated input, shape unchanged."""
        query, context, gates = torch.split(self.project_in(x_BCHW), self.parts, 1)
        total = None
        for number, layer in enumerate(self.focal_layers):
            context = self.act(layer(context))
            weighed = context * gates[:, number : number + 1]
            total = weighed if total is None else total + weighed
        assert total is not None
        total = total + self.act(context.mean((2, 3), keepdim=True)) * gates[:, -1:]
        y: Tensor = self.proj(query * self.h(total))
        return y
