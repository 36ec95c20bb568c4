"""Selects one feature of a list: a backbone's pyramid, or what stands in front of the head.

No paper: plumbing, so that a list of features reaches the layers of a detector one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class FeatureSelect(nn.Module):
    """Return one entry of a list of features.

    Args:
        position: Index in the list.
        stride: Stride of that feature relative to the image, for display; None where the list says nothing of it.
    """

    def __init__(self, position: int, stride: int | None = None) -> None:
        super().__init__()
        self.position = position
        self.stride = stride

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the selected feature, shape (batch, channels, height, width)."""
        return features[self.position]

    def extra_repr(self) -> str:
        """Show which feature is selected."""
        return f"position={self.position}" if self.stride is None else f"stride={self.stride}"
