"""SimAM: attention without parameters, from how much a pixel stands out of its own feature map.

Paper: "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks", ICML 2021.
Official source: github.com/ZjjConan/SimAM, networks/attentions/simam_module.py, read at commit
ae98f43a34a051cc82f6e618853c690e1f4c92e6. The repository states no licence; what stands here is written from the
paper's closed form of the minimal energy. There are no weights.

Differences: none in value. A feature map of a single pixel, where the official code divides zero by zero, keeps its
value times sigmoid(0.5). The squares are averaged rather than summed and formed in float32, so that half precision
does not overflow on large maps.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.errors import ArgumentError


class SimAM(nn.Module):
    """Weigh each pixel by the inverse of its energy within its channel.

    Args:
        c1: Input channels; the output has as many.
        e_lambda: Regulariser added to the variance, above 0.

    Raises:
        ArgumentError: ``e_lambda`` is not above 0.
    """

    def __init__(self, c1: int, e_lambda: float = 1e-4) -> None:
        super().__init__()
        require_positive("SimAM", c1=c1)
        if not e_lambda > 0:
            raise ArgumentError(f"SimAM: e_lambda must be above 0, found {e_lambda!r}")
        self.e_lambda = float(e_lambda)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the weighted input, shape and dtype unchanged."""
        wide_BCHW = x_BCHW.to(torch.promote_types(x_BCHW.dtype, torch.float32))
        squared_BCHW = (wide_BCHW - wide_BCHW.mean((2, 3), keepdim=True)).square()
        pixels = x_BCHW.shape[2] * x_BCHW.shape[3]
        # The variance with one degree of freedom less; a lone pixel, whose square is zero, is divided by 1.
        variance_BC11 = squared_BCHW.mean((2, 3), keepdim=True) * (pixels / (pixels - 1 + (pixels == 1)))
        inverse_energy_BCHW = squared_BCHW / (4 * (variance_BC11 + self.e_lambda)) + 0.5
        return x_BCHW * inverse_energy_BCHW.sigmoid().to(x_BCHW.dtype)

    def extra_repr(self) -> str:
        """Show the regulariser."""
        return f"e_lambda={self.e_lambda}"
