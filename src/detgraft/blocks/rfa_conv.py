"""RFAConv: a convolution whose window is weighed pixel by pixel before the kernel sees it.

Paper: "RFAConv: Innovating Spatial Attention and Standard Convolutional Operation" (arXiv 2304.03198).
Official source: github.com/Liuchen1997/RFAConv, model.py, the form by group convolution, read at commit
363fd6b31209e1cd2a1a4ca1dd3f34e8d6db0063. The repository states no licence; what stands here is written from the
paper's formula. No weights are used.

Differences: the k x k convolution with stride k over the spread windows is computed as a 1x1 convolution over the same
values without spreading them; its bias is left out, since the batch norm behind it takes any bias away again (loading
official weights: subtract that bias from the norm's running mean).

Shape suffixes: B batch, C channels, K pixels of a window, H height, W width.
"""

from __future__ import annotations

from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.errors import ArgumentError


class RFAConv(nn.Module):
    """Weigh each window of ``k * k`` pixels by a softmax over its pixels, then convolve.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size, odd.
        s: Stride.

    Raises:
        ArgumentError: A value is below 1, or ``k`` is even.
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 2) -> None:
        super().__init__()
        require_positive("RFAConv", c1=c1, c2=c2, k=k, s=s)
        if k % 2 == 0:
            raise ArgumentError(f"RFAConv: k must be odd, found {k}")
        self.window = k * k
        self.pool = nn.AvgPool2d(k, s, k // 2)
        self.get_weight = nn.Conv2d(c1, c1 * self.window, 1, groups=c1, bias=False)
        self.generate_feature = ConvNormAct(c1, c1 * self.window, k, s, g=c1, act=nn.ReLU())
        self.conv = ConvNormAct(c1 * self.window, c2, 1, act=nn.ReLU())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, ceil(height / s), ceil(width / s))."""
        feature = self.generate_feature(x_BCHW)
        batch, _, height, width = feature.shape
        windows = (batch, -1, self.window, height, width)
        weight_BCKHW = self.get_weight(self.pool(x_BCHW)).reshape(windows).softmax(2)
        weighed = (feature.reshape(windows) * weight_BCKHW).reshape(feature.shape)
        y: Tensor = self.conv(weighed)
        return y

    def fuse(self) -> RFAConv:
        """Fold the batch norms into the convolutions in front of them, in place; idempotent."""
        self.generate_feature.fuse()
        self.conv.fuse()
        return self
