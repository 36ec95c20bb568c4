"""Weighted concatenation: BiFPN's fast normalised fusion in front of a concatenation.

Paper: "EfficientDet: Scalable and Efficient Object Detection", CVPR 2020 (section 3.3, fast normalised fusion).
Official source: github.com/google/automl, efficientdet/tf2/efficientdet_keras.py (``FNode.fuse_features``, method
``fastattn``), read at commit 6a54c8741e7c3265d4547c4f35f47a0391122dc5. Licence: Apache-2.0. No weights are used.

Differences: the official node adds its weighted inputs, which must have equal channels; this one concatenates them, as
YOLO's necks need, so that adding up the parts of its output gives the official result. The weights start at one, so
every input is scaled by about one over the number of inputs at first, as in the official code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.errors import ArgumentError


class WeightedConcat(nn.Module):
    """Concatenate inputs, each scaled by a learned share of at least 0; the shares add up to about 1.

    Args:
        channels: Channels of each input; the output has their sum.
        dimension: Dimension to join, 1 (the channels), as a Concat row writes it.
        eps: Added to the sum of the weights, above 0.

    Raises:
        ArgumentError: No input channels, another dimension, or ``eps`` not above 0.
    """

    def __init__(self, channels: list[int], dimension: int = 1, eps: float = 1e-4) -> None:
        super().__init__()
        if not isinstance(channels, (list, tuple)) or not channels:
            raise ArgumentError(f"WeightedConcat: channels must list the channels of each input, found {channels!r}")
        for value in channels:
            require_positive("WeightedConcat", channels=value)
        if dimension != 1:
            raise ArgumentError(f"WeightedConcat: dimension must be 1 (the channels), found {dimension!r}")
        if not eps > 0:
            raise ArgumentError(f"WeightedConcat: eps must be above 0, found {eps!r}")
        self.channels = tuple(channels)
        self.eps = float(eps)
        self.weight = nn.Parameter(torch.ones(len(channels)))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return shape (batch, sum of channels, height, width) for inputs of equal height and width."""
        weight = self.weight.relu()
        share = (weight / (weight.sum() + self.eps)).to(inputs[0].dtype)
        return torch.cat([tensor * share[i] for i, tensor in enumerate(inputs)], 1)

    def extra_repr(self) -> str:
        """Show the channels."""
        return f"channels={list(self.channels)}"
