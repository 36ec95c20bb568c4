"""LSKA: large separable kernel attention.

Paper: "Large Separable Kernel Attention: Rethinking the Large Kernel Attention Design in CNN", Expert Systems with
Applications 2024 (arXiv 2309.01439, 2023).
Official source: github.com/StevenLauHKHK/Large-Separable-Kernel-Attention, models/van.py, read at commit
bb2a8d2cfd7e9ff48a34306197249d90153c8d4e. Licence: Apache-2.0. No weights are used.

Differences: none in value. ``LSKA`` is the official gate, whose output is the input times an unbounded attention map;
``LSKAAttention`` is the official layer around it (1x1 convolution, GELU, gate, 1x1 convolution, residual), which is
the one to put into a trained graph. Weights start as in the official code: normal, variance 2 over the fan-out.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.parts.arguments import require_positive
from detgraft.errors import ArgumentError

# Kernel size: dilation of the second pair. The first pair then has 2 * dilation - 1 taps and the second k // dilation.
_DILATIONS = {7: 2, 11: 2, 23: 3, 35: 3, 41: 3, 53: 3}


class LSKA(nn.Module):
    """Gate the input by an attention map with a large receptive field, made of four depthwise strips.

    Args:
        c1: Input channels; the output has as many.
        k: Size of the large kernel that the strips stand for: 7, 11, 23, 35, 41 or 53.

    Raises:
        ArgumentError: A kernel size that the paper does not define.
    """

    def __init__(self, c1: int, k: int = 11) -> None:
        super().__init__()
        require_positive("LSKA", c1=c1)
        if k not in _DILATIONS:
            raise ArgumentError(f"LSKA: k must be one of {', '.join(map(str, _DILATIONS))}, found {k!r}")
        dilation = _DILATIONS[k]
        local, far = 2 * dilation - 1, k // dilation
        self.conv0h = _strip(c1, (1, local), 1)
        self.conv0v = _strip(c1, (local, 1), 1)
        self.conv_spatial_h = _strip(c1, (1, far), dilation)
        self.conv_spatial_v = _strip(c1, (far, 1), dilation)
        self.conv1 = nn.Conv2d(c1, c1, 1)
        _initialise(self)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the gated input, shape unchanged."""
        attention_BCHW = self.conv0v(self.conv0h(x_BCHW))
        attention_BCHW = self.conv_spatial_v(self.conv_spatial_h(attention_BCHW))
        y: Tensor = x_BCHW * self.conv1(attention_BCHW)
        return y


class LSKAAttention(nn.Module):
    """The official attention layer: project, GELU, LSKA, project, add the input.

    Args:
        c1: Input channels; the output has as many.
        k: Kernel size, see :class:`LSKA`.

    Raises:
        ArgumentError: A kernel size that the paper does not define.
    """

    def __init__(self, c1: int, k: int = 11) -> None:
        super().__init__()
        self.lska = LSKA(c1, k)
        self.proj_1 = nn.Conv2d(c1, c1, 1)
        self.proj_2 = nn.Conv2d(c1, c1, 1)
        _initialise(self)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the input plus its gated projection, shape unchanged."""
        y: Tensor = x_BCHW + self.proj_2(self.lska(F.gelu(self.proj_1(x_BCHW))))
        return y


def _strip(channels: int, size: tuple[int, int], dilation: int) -> nn.Conv2d:
    padding = (dilation * (size[0] - 1) // 2, dilation * (size[1] - 1) // 2)
    return nn.Conv2d(channels, channels, size, padding=padding, dilation=dilation, groups=channels)


def _initialise(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.weight[0, 0].numel() * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
