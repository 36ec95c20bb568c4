"""Norms over the channels of each pixel, and batch norms that no convolution stands in front of.

Paper: none of its own; layer normalisation is described in arXiv 1607.06450. Own code. No weights.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.parts.fusing import batch_norm_affine


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel of ``(B, C, H, W)``.

    Args:
        channels: Channels.
        eps: Added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__(channels, eps)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the normalised input, shape unchanged."""
        y_BHWC = F.layer_norm(x_BCHW.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return y_BHWC.permute(0, 3, 1, 2)


@torch.no_grad()
def as_convolution(norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Return the depthwise 1x1 convolution that does what a batch norm does in evaluation mode."""
    scale_C, shift_C = batch_norm_affine(norm)
    reference = norm.weight if norm.weight is not None else scale_C
    conv = nn.Conv2d(len(scale_C), len(scale_C), 1, groups=len(scale_C), device=scale_C.device, dtype=reference.dtype)
    conv.weight.copy_(scale_C[:, None, None, None])
    assert conv.bias is not None
    conv.bias.copy_(shift_C)
    return conv.requires_grad_(reference.requires_grad)


@torch.no_grad()
def fold_in_front(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> None:
    """Fold a batch norm into the 1x1 convolution behind it, in place; exact, since nothing is padded between them.

    Args:
        norm: The batch norm.
        conv: A 1x1 convolution without groups, padding or stride; gets a bias.
    """
    scale_C, shift_C = batch_norm_affine(norm)
    weight = conv.weight.to(scale_C.dtype)
    bias = weight[:, :, 0, 0] @ shift_C
    if conv.bias is not None:
        bias = bias + conv.bias
    conv.weight.copy_(weight * scale_C[:, None, None])
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=conv.weight.requires_grad)
