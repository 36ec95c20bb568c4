"""CARAFE: an upsampler that predicts its own kernel for every output pixel.

Paper: CARAFE: Content-Aware ReAssembly of FEatures (arXiv 1905.02188).
Source: open-mmlab/mmcv, ``ops/carafe.py`` (Apache-2.0). No weights.
Two forms:
- ``CARAFEOfficial`` is mmcv's package: plain convolutions with bias, Xavier and a narrow normal at the start.
- ``CARAFE`` is the form used with YOLO: both convolutions carry a batch norm, the first one SiLU too, and the order of
  the arguments differs. Its figures are those of the tutorial.
Differences from mmcv: no CUDA extension; the reassembly is plain PyTorch at the input's resolution
(`detgraft.kernels.carafe`).

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_multiple, require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.parts.fusing import fuse_tree
from detgraft.errors import ArgumentError
from detgraft.kernels.carafe import carafe


class CARAFE(nn.Module):
    """CARAFE as used with YOLO: ``(B, C, H, W)`` to ``(B, C, H * scale, W * scale)``.

    Args:
        c1: Channels, kept.
        k_enc: Kernel of the convolution that predicts the reassembly kernels.
        k_up: Side of the reassembled neighbourhood, odd.
        c_mid: Channels after compression.
        scale: Upsampling factor.

    Raises:
        ArgumentError: for an even kernel, or a size below 1.
    """

    def __init__(self, c1: int, k_enc: int = 3, k_up: int = 5, c_mid: int = 64, scale: int = 2) -> None:
        super().__init__()
        _check_sizes(c1=c1, k_enc=k_enc, k_up=k_up, c_mid=c_mid, scale=scale)
        self.k_up = k_up
        self.scale = scale
        self.comp = ConvNormAct(c1, c_mid)
        self.enc = ConvNormAct(c_mid, (scale * k_up) ** 2, k=k_enc, act=False)

    def mask(self, x_BCHW: Tensor) -> Tensor:
        """Predict the kernels ``(B, k_up * k_up, H * scale, W * scale)``; those of one pixel sum to 1."""
        return normalised_mask(self.enc(self.comp(x_BCHW)), 1, self.k_up, self.scale)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Upsample ``(B, C, H, W)``."""
        return carafe(x_BCHW, self.mask(x_BCHW), self.k_up, self.scale)

    def fuse(self) -> CARAFE:
        """Fold both batch norms in place."""
        fuse_tree(self)
        return self


class CARAFEOfficial(nn.Module):
    """CARAFE as in mmcv: ``(B, C, H, W)`` to ``(B, C, H * scale, W * scale)``.

    Args:
        c1: Channels, kept.
        scale: Upsampling factor.
        k_up: Side of the reassembled neighbourhood, odd.
        k_enc: Kernel of the convolution that predicts the reassembly kernels.
        c_mid: Channels after compression.
        groups: Channel groups with kernels of their own; divides ``c1``.

    Raises:
        ArgumentError: for an even kernel, a size below 1, or groups that do not divide the channels.
    """

    def __init__(
        self, c1: int, scale: int = 2, k_up: int = 5, k_enc: int = 3, c_mid: int = 64, groups: int = 1
    ) -> None:
        super().__init__()
        _check_sizes(c1=c1, k_enc=k_enc, k_up=k_up, c_mid=c_mid, scale=scale, groups=groups)
        require_multiple("CARAFE", "groups", groups, c1=c1)
        self.k_up = k_up
        self.scale = scale
        self.groups = groups
        self.channel_compressor = nn.Conv2d(c1, c_mid, 1)
        self.content_encoder = nn.Conv2d(c_mid, groups * (scale * k_up) ** 2, k_enc, padding=k_enc // 2)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as mmcv does: Xavier for the compression, normal with deviation 0.001 for the encoder, no bias."""
        nn.init.xavier_uniform_(self.channel_compressor.weight)
        nn.init.normal_(self.content_encoder.weight, std=0.001)
        for conv in (self.channel_compressor, self.content_encoder):
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def mask(self, x_BCHW: Tensor) -> Tensor:
        """Predict the kernels ``(B, groups * k_up * k_up, H * scale, W * scale)``; each sums to 1."""
        return normalised_mask(
            self.content_encoder(self.channel_compressor(x_BCHW)), self.groups, self.k_up, self.scale
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Upsample ``(B, C, H, W)``."""
        return carafe(x_BCHW, self.mask(x_BCHW), self.k_up, self.scale)


def normalised_mask(code_BCHW: Tensor, groups: int, k_up: int, scale: int) -> Tensor:
    """Turn the encoder's output into kernels: depth to space, then softmax over each kernel's entries.

    Args:
        code_BCHW: ``(B, groups * (k_up * scale) ** 2, H, W)``.
        groups: Kernels per output pixel.
        k_up: Side of one kernel.
        scale: Upsampling factor.

    Returns:
        ``(B, groups * k_up * k_up, H * scale, W * scale)``.
    """
    mask = F.pixel_shuffle(code_BCHW, scale)
    if groups == 1:
        return F.softmax(mask, dim=1)
    return F.softmax(torch.unflatten(mask, 1, (groups, k_up * k_up)), dim=2).flatten(1, 2)


def _check_sizes(**sizes: int) -> None:
    require_positive("CARAFE", **sizes)
    for name, value in sizes.items():
        if name.startswith("k_") and value % 2 == 0:
            raise ArgumentError(f"CARAFE: {name} must be odd, found {value}")
