"""CAA: context anchor attention, a pixel's weight from a long strip along each axis.

Paper: "Poly Kernel Inception Network for Remote Sensing Detection", CVPR 2024.
Official source: github.com/NUST-Machine-Intelligence-Laboratory/PKINet, mmrotate/models/backbones/pkinet.py, read at
commit c1e72da3f63a5279facced24d0e40320a5ceaddd. Licence: Apache-2.0. No weights are used.

Differences: the official module returns the factor, which its user multiplies with the features; here the weighted
features are returned, so that it stands in a detector by itself.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.errors import ArgumentError

POOL = 7
"""Side of the neighbourhood, in pixels, that is averaged first."""


class CAA(nn.Module):
    """Weigh each pixel and channel by an average of its surroundings seen through two strip convolutions.

    Args:
        c1: Input channels; the output has as many.
        k: Length of the strips in pixels, odd.

    Raises:
        ArgumentError: A value is below 1, or ``k`` is even.
    """

    def __init__(self, c1: int, k: int = 11) -> None:
        super().__init__()
        require_positive("CAA", c1=c1, k=k)
        if k % 2 == 0:
            raise ArgumentError(f"CAA: k must be odd, found {k}")
        self.pool = nn.AvgPool2d(POOL, 1, POOL // 2)
        self.conv1 = ConvNormAct(c1, c1, 1)
        self.h_conv = nn.Conv2d(c1, c1, (1, k), padding=(0, k // 2), groups=c1)
        self.v_conv = nn.Conv2d(c1, c1, (k, 1), padding=(k // 2, 0), groups=c1)
        self.conv2 = ConvNormAct(c1, c1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the weighted input, shape unchanged."""
        strips = self.v_conv(self.h_conv(self.conv1(self.pool(x_BCHW))))
        y: Tensor = x_BCHW * self.conv2(strips).sigmoid()
        return y

    def fuse(self) -> CAA:
        """Fold the batch norms into the convolutions in front of them, in place; idempotent."""
        self.conv1.fuse()
        self.conv2.fuse()
        return self
