"""Global response normalisation: each channel relative to how strongly all channels answer.

Paper: "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders" (arXiv 2301.00808).
Official source: github.com/facebookresearch/ConvNeXt-V2, models/utils.py (``GRN``), read at commit
2553895753323c6fe0b2bf390683f5ea358a42b9. Licence: MIT. No weights are used.

Differences: channels come second; the parameters are vectors.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPS = 1e-6


class ResponseNorm(nn.Module):
    """Scale each channel by its norm over the picture, relative to the channels' mean norm; add the input.

    Args:
        channels: Channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the normalised input, shape unchanged."""
        norm_BC11 = torch.linalg.vector_norm(x_BCHW.float(), dim=(2, 3), keepdim=True)
        share_BC11 = (norm_BC11 / (norm_BC11.mean(1, keepdim=True) + EPS)).to(x_BCHW.dtype)
        y: Tensor = x_BCHW * (self.gamma[:, None, None] * share_BC11 + 1) + self.beta[:, None, None]
        return y
