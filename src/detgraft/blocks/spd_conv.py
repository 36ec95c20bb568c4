"""SPD-Conv: space to depth, then a convolution without stride, in place of a strided convolution.

Paper: "No More Strided Convolutions or Pooling: A New CNN Building Block for Low-Resolution Images and Small
Objects", ECML PKDD 2022.
Official source: github.com/LabSAINT/SPD-Conv, YOLOv5-SPD/models/common.py and ResNet50-SPD/models/resnet50_spd.py,
read at commit c09f7928b8d2c33034fc3e9889a866f8bf37b44d. Licence: MIT. No weights are used.

Differences: this is the paper's building block, space to depth followed by the convolution. The official YOLOv5 YAML
has the two in the other order, a Conv without stride and then the space-to-depth layer, whose fourfold channels the C3
behind it has to bring down. Sizes that the stride does not divide are padded with zeros at the right and at the bottom
(the official code fails), so that the output is as large as a strided convolution's.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.dynamic_conv import batch_may_vary
from detgraft.blocks.parts.arguments import require_multiple, require_padding, require_positive
from detgraft.blocks.parts.conv import ConvNormAct


class SPDConv(nn.Module):
    """Move each square of ``s * s`` pixels into channels, then convolve, normalise and activate.

    Takes its arguments in the order of a Conv row, so that it can stand in for one.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size of the convolution.
        s: Side of the square, and so the stride of the block.
        p: Padding of the convolution; None keeps its size.
        g: Groups of the convolution; must divide ``c1 * s * s`` and ``c2``.
        d: Dilation of the convolution.
        act: Apply SiLU behind the norm.

    Raises:
        ArgumentError: A value is below 1, or channels that ``g`` does not divide.
    """

    def __init__(
        self, c1: int, c2: int, k: int = 3, s: int = 2, p: int | None = None, g: int = 1, d: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        require_positive("SPDConv", c1=c1, c2=c2, k=k, s=s, g=g, d=d)
        require_padding("SPDConv", p)
        require_multiple("SPDConv", "g", g, c1_times_s_squared=c1 * s * s, c2=c2)
        self.s = s
        self.conv = ConvNormAct(c1 * s * s, c2, k, 1, p, g, d, act)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, ceil(height / s), ceil(width / s)) with the default padding."""
        right, bottom = -x_BCHW.shape[3] % self.s, -x_BCHW.shape[2] % self.s
        if batch_may_vary() or right or bottom:  # an exported graph may see other sizes than the example
            x_BCHW = F.pad(x_BCHW, (0, right, 0, bottom))
        # Rows run fastest, as in the official order; torch's own pixel_unshuffle orders channels differently.
        corners = [x_BCHW[..., row :: self.s, column :: self.s] for column in range(self.s) for row in range(self.s)]
        y: Tensor = self.conv(torch.cat(corners, 1))
        return y

    def fuse(self) -> SPDConv:
        """Fold the batch norm into the convolution, in place; idempotent."""
        self.conv.fuse()
        return self
