"""BiFPN's fast normalised fusion: a weighted sum, and the same weights in front of a concatenation.

Paper: "EfficientDet: Scalable and Efficient Object Detection", CVPR 2020 (section 3.3, fast normalised fusion).
Official source: github.com/google/automl, efficientdet/tf2/efficientdet_keras.py (``FNode.fuse_features``, method
``fastattn``), read at commit 6a54c8741e7c3265d4547c4f35f47a0391122dc5. Licence: Apache-2.0. No weights are used.

Differences: ``BiFPNAdd`` is the official node's sum; where an input has other channels it is projected by a 1x1
convolution and batch norm, which the official code does in the resampling step before the node. ``BiFPNConv`` is what
follows the sum there: activation, depthwise and 1x1 convolution, batch norm; SiLU is the official swish.
``WeightedConcat`` concatenates the weighted inputs, as YOLO's necks need, so that adding up the parts of its output
gives the official result. The weights start at one, so every input is scaled by about one over the number of inputs at
first, as in the official code.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.parts.joining import fold_norms, projections, require_inputs, require_same_size
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


class BiFPNAdd(nn.Module):
    """Add inputs up, each scaled by a learned share of at least 0; the shares add up to about 1.

    Args:
        channels: Channels of each input.
        c2: Output channels; inputs with other channels pass a 1x1 convolution and batch norm first.
        eps: Added to the sum of the weights, above 0.

    Raises:
        ArgumentError: Fewer than two inputs, a value below 1, or ``eps`` not above 0.
    """

    def __init__(self, channels: list[int], c2: int, eps: float = 1e-4) -> None:
        super().__init__()
        inputs = require_inputs("BiFPNAdd", channels)
        require_positive("BiFPNAdd", c2=c2)
        if not eps > 0:
            raise ArgumentError(f"BiFPNAdd: eps must be above 0, found {eps!r}")
        self.eps = float(eps)
        self.weight = nn.Parameter(torch.ones(len(inputs)))
        self.project = projections(inputs, c2)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return ``(B, c2, H, W)`` for inputs of one height and width.

        Raises:
            ArgumentError: Their sizes differ.
        """
        require_same_size("BiFPNAdd", inputs)
        weight = self.weight.relu()
        share = (weight / (weight.sum() + self.eps)).to(inputs[0].dtype)
        terms = [project(x) * share[i] for i, (project, x) in enumerate(zip(self.project, inputs, strict=True))]
        return torch.stack(terms).sum(0)

    def fuse(self) -> BiFPNAdd:
        """Fold the batch norms of the projections, in place; idempotent."""
        fold_norms(self)
        return self


class BiFPNConv(nn.Module):
    """Activate, then convolve each channel 3x3, then mix the channels, then normalise.

    Args:
        c1: Input channels.
        c2: Output channels.

    Raises:
        ArgumentError: A value is below 1.
    """

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        require_positive("BiFPNConv", c1=c1, c2=c2)
        self.act = nn.SiLU()
        self.depthwise = nn.Conv2d(c1, c1, 3, padding=1, groups=c1, bias=False)
        self.point = ConvNormAct(c1, c2, act=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, c1, H, W)`` to ``(B, c2, H, W)``."""
        y: Tensor = self.point(self.depthwise(self.act(x_BCHW)))
        return y

    def fuse(self) -> BiFPNConv:
        """Fold the batch norm, in place; idempotent."""
        self.point.fuse()
        return self
