"""SE: one factor per channel, from the means of all channels.

Paper: "Squeeze-and-Excitation Networks", CVPR 2018.
Official source: github.com/hujie-frank/SENet (Caffe), read at commit 0262d43d44c561fd53c3dba210cc8bacfc60500d. Licence:
Apache-2.0. No weights are used.

Differences: the two fully connected layers are 1x1 convolutions; at least one hidden unit is kept. Equal to timm's
``SqueezeExcite`` with the same number of hidden units.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive


class SE(nn.Module):
    """Weigh each channel by what all channels are on average.

    Args:
        c1: Input channels; the output has as many.
        reduction: Ratio of channels to hidden units.

    Raises:
        ArgumentError: A value is below 1.
    """

    def __init__(self, c1: int, reduction: int = 16) -> None:
        super().__init__()
        require_positive("SE", c1=c1, reduction=reduction)
        hidden = max(1, c1 // reduction)
        self.squeeze = nn.Conv2d(c1, hidden, 1)
        self.act = nn.ReLU()
        self.excite = nn.Conv2d(hidden, c1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the weighted input, shape unchanged."""
        mean_BC11 = x_BCHW.mean((2, 3), keepdim=True)
        y: Tensor = x_BCHW * self.excite(self.act(self.squeeze(mean_BC11))).sigmoid()
        return y
