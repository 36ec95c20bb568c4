"""A convolution with another block behind it, under the names that the convolution had alone.

Paper: none. Source: own code; the names ``conv``, ``bn`` and ``act`` are those of ultralytics/ultralytics,
``nn/modules/conv.py`` (AGPL-3.0), so that the weights of the convolution alone still fit. No weights.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from torch import Tensor, nn

from detgraft.blocks.parts.conv import ConvNormAct


class FollowedConv(ConvNormAct):
    """Convolution, batch norm, activation, then a block that keeps shape.

    Args:
        conv: The convolution.
        bn: Its batch norm.
        act: Its activation.
        then: The block behind it.
    """

    def __init__(self, conv: nn.Conv2d, bn: nn.Module, act: nn.Module, then: nn.Module) -> None:
        nn.Module.__init__(self)
        self.conv = conv
        self.bn = bn
        self.act = act
        self.then = then

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, c1, H, W)`` to ``(B, c2, H', W')``."""
        y: Tensor = self.then(super().forward(x_BCHW))
        return y
