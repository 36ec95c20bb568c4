"""GAM: global attention mechanism, channel weights for each pixel, then pixel weights by two 7x7 convolutions.

Paper: "Global Attention Mechanism: Retain Information to Enhance Channel-Spatial Interactions" (arXiv 2112.05561).
There is no official repository and no licence; what stands here is written from the paper. No weights are used.

Differences: the two layers over the channels are 1x1 convolutions. At least one hidden channel is kept.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct


class GAM(nn.Module):
    """Weigh each pixel's channels by a two-layer perceptron over them, then the pixels by two 7x7 convolutions.

    Args:
        c1: Input channels; the output has as many.
        reduction: Ratio of channels to hidden channels.

    Raises:
        ArgumentError: A value is below 1.
    """

    def __init__(self, c1: int, reduction: int = 4) -> None:
        super().__init__()
        require_positive("GAM", c1=c1, reduction=reduction)
        hidden = max(1, c1 // reduction)
        self.squeeze = nn.Conv2d(c1, hidden, 1)
        self.act = nn.ReLU()
        self.excite = nn.Conv2d(hidden, c1, 1)
        self.spatial1 = ConvNormAct(c1, hidden, 7, act=nn.ReLU())
        self.spatial2 = ConvNormAct(hidden, c1, 7, act=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the weighted input, shape unchanged."""
        weighed = x_BCHW * self.excite(self.act(self.squeeze(x_BCHW))).sigmoid()
        y: Tensor = weighed * self.spatial2(self.spatial1(weighed)).sigmoid()
        return y

    def fuse(self) -> GAM:
        """Fold the batch norms into the convolutions in front of them, in place; idempotent."""
        self.spatial1.fuse()
        self.spatial2.fuse()
        return self
