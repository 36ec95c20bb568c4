"""timm's ConvNeXt V2 block with a faster forward on the CPU; parameters, names and results are timm's.

Paper: ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders (arXiv 2301.00808).
Source: huggingface/pytorch-image-models ``timm/models/convnext.py`` (Apache-2.0), whose module is subclassed; the fast
forward is own code from the formulas (`detgraft.kernels.convnext`). No weights.
Differences: the sums run in another order, within float32's rounding. Everything that the fast form does not cover
(CUDA, reduced precision, tracing and export, ``torch.compile``, counted or hooked layers, layer scale, active stochastic
depth, another activation) is timm's own forward.

Shape suffixes: B batch, C channels, H height, W width, L positions.
"""

from __future__ import annotations

import torch
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from detgraft.kernels.convnext import response_mlp
from detgraft.kernels.recording import is_recorded

_EXACT_GELU = ("GELU",)


class FastConvNeXtBlock(ConvNeXtBlock):  # type: ignore[misc]
    """timm's ``ConvNeXtBlock``; never built, an existing block is given this class."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape; channels-last in memory where the fast form runs."""
        if not self.is_covered(x_BCHW):
            y: Tensor = super().forward(x_BCHW)
            return y
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        batch, channels, height, width = x_BCHW.shape
        spatial_BCHW = self.conv_dw(x_BCHW).contiguous(memory_format=torch.channels_last)
        mlp = self.mlp
        y_BLC = response_mlp(
            _positions(spatial_BCHW),
            _positions(x_BCHW),
            (self.norm.weight, self.norm.bias, self.norm.eps),
            (mlp.fc1.weight.flatten(1), mlp.fc1.bias),
            (mlp.grn.weight, mlp.grn.bias, mlp.grn.eps),
            (mlp.fc2.weight.flatten(1), mlp.fc2.bias),
        )
        return y_BLC.view(batch, height, width, channels).permute(0, 3, 1, 2)

    def is_covered(self, x_BCHW: Tensor) -> bool:
        """Say whether the fast form computes what timm's forward would."""
        if x_BCHW.device.type != "cpu" or x_BCHW.dtype not in (torch.float32, torch.float64) or not x_BCHW.numel():
            return False
        if is_recorded() or torch.is_autocast_enabled("cpu"):
            return False
        mlp, norm, weight = self.mlp, self.norm, self.conv_dw.weight
        grn = getattr(mlp, "grn", None)
        return (
            weight.dtype == x_BCHW.dtype
            and grn is not None
            and self.gamma is None
            and isinstance(self.shortcut, nn.Identity)
            and (isinstance(self.drop_path, nn.Identity) or not self.training)
            and (not self.training or mlp.drop1.p == mlp.drop2.p == 0)
            and isinstance(norm, nn.LayerNorm)
            and type(mlp.act).__name__ in _EXACT_GELU
            and getattr(mlp.act, "approximate", "none") == "none"
            and all(p is not None for p in (norm.weight, norm.bias, mlp.fc1.bias, mlp.fc2.bias))
            and not any(m._forward_hooks or m._forward_pre_hooks for m in (norm, *mlp.modules()))
        )


def _positions(x_BCHW: Tensor) -> Tensor:
    """View channels-last features as ``(B, L, C)``."""
    return x_BCHW.permute(0, 2, 3, 1).flatten(1, 2)
