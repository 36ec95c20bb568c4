"""HS-FPN's parts: channels of a level chosen by attention, and a low level filtered by a high one.

Paper: "Accurate leukocyte detection based on deformable-DETR and multi-level feature fusion for aiding diagnosis of
blood diseases", Computers in Biology and Medicine 2024 (arXiv 2401.00926; section 3.2, high-level screening-feature
pyramid network: feature selection and selective feature fusion).
Official source: github.com/JustlfC03/MFDS-DETR, modules/deformable_detr.py (``ChannelAttention`` and ``wbcfpn``), run
for its numbers at commit 4f15c3095ef352e06360c84fff11da3473f8cc95. The repository has no licence, so no line is used.
No weights are used.

Differences: at least one hidden channel is kept; ``SelectiveFusion`` projects inputs with other channels than the
output's by a 1x1 convolution and batch norm, and asks for one size (the official code resizes the high level, which a
detector's padded pictures never need).

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.joining import fold_norms, projections, require_inputs, require_same_size


class ChannelSelect(nn.Module):
    """Weigh each channel by what its mean and its maximum say through the same two layers.

    Args:
        c1: Input channels; the output has as many.
        reduction: Factor between the channels and the hidden ones.

    Raises:
        ArgumentError: A value is below 1.
    """

    def __init__(self, c1: int, reduction: int = 4) -> None:
        super().__init__()
        require_positive("ChannelSelect", c1=c1, reduction=reduction)
        hidden = max(c1 // reduction, 1)
        self.squeeze = nn.Conv2d(c1, hidden, 1, bias=False)
        self.excite = nn.Conv2d(hidden, c1, 1, bias=False)

    def weight(self, x_BCHW: Tensor) -> Tensor:
        """Return the factors, ``(B, C, 1, 1)``."""
        views = (x_BCHW.mean((2, 3), keepdim=True), x_BCHW.amax((2, 3), keepdim=True))
        mean_BC11, peak_BC11 = (self.excite(self.squeeze(view).relu()) for view in views)
        y: Tensor = (mean_BC11 + peak_BC11).sigmoid()
        return y

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the weighted input, shape unchanged."""
        return x_BCHW * self.weight(x_BCHW)


class SelectiveFusion(nn.Module):
    """Filter a low level's channels by a high level, and add that level.

    Args:
        channels: Channels of the high level and of the low level.
        c2: Output channels.
        reduction: See `ChannelSelect`.

    Raises:
        ArgumentError: Not two inputs, or a value below 1.
    """

    def __init__(self, channels: list[int], c2: int, reduction: int = 4) -> None:
        super().__init__()
        inputs = require_inputs("SelectiveFusion", channels, 2, 2)
        require_positive("SelectiveFusion", c2=c2, reduction=reduction)
        self.project = projections(inputs, c2)
        self.select = _Factors(c2, reduction)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return ``(B, c2, H, W)`` for the high and the low level at one height and width.

        Raises:
            ArgumentError: Their sizes differ.
        """
        require_same_size("SelectiveFusion", inputs)
        high_BCHW, low_BCHW = (project(x) for project, x in zip(self.project, inputs, strict=True))
        y: Tensor = low_BCHW * self.select(high_BCHW) + high_BCHW
        return y

    def fuse(self) -> SelectiveFusion:
        """Fold the batch norms of the projections, in place; idempotent."""
        fold_norms(self)
        return self


class _Factors(ChannelSelect):
    """The factors alone, for another map."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the factors, ``(B, C, 1, 1)``."""
        return self.weight(x_BCHW)
