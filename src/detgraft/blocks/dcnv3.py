"""Deformable convolution v3: groups of channels, each with points of its own whose weights sum to one.

Paper: "InternImage: Exploring Large-Scale Vision Foundation Models with Deformable Convolutions", CVPR 2023.
Official source: github.com/OpenGVLab/InternImage, classification/ops_dcnv3 (``DCNv3_pytorch``), read at commit
31c962dc6c1ceb23e580772f7daaa6944694fbe6. Licence: MIT. No weights are used.
Two forms: ``DeformV3`` is the official operator in plain PyTorch; ``DCNv3`` has a batch norm and SiLU behind it and,
where the channels change, a 1x1 convolution in front, so that it can stand for a convolution.

Differences: the linear layers are 1x1 convolutions over channels that come second; with a stride the offsets are
predicted with that stride; the scale of the centre (``center_feature_scale``) is not built, as officially by default.

Shape suffixes: B batch, G groups, C channels, T kernel positions, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_multiple, require_padding, require_positive
from detgraft.blocks.parts.conv import ConvNormAct, activation, autopad
from detgraft.blocks.parts.fusing import batch_norm_affine, fold_batch_norm, holds_weight
from detgraft.blocks.parts.norms import ChannelNorm
from detgraft.blocks.parts.sampling import positions, sample_points
from detgraft.errors import ArgumentError


class DeformV3(nn.Module):
    """Sum each group's kernel positions at predicted offsets with predicted shares, between two projections.

    Args:
        c1: Input channels, a multiple of ``groups``; the output has as many.
        k: Kernel size.
        s: Stride.
        p: Padding; None keeps the size at stride 1.
        d: Dilation.
        groups: Groups of channels with offsets and shares of their own.
    """

    def __init__(self, c1: int, k: int = 3, s: int = 1, p: int | None = None, d: int = 1, groups: int = 4) -> None:
        super().__init__()
        self.k, self.s, self.p, self.d, self.groups = k, s, autopad(k, p, d), d, groups
        self.dw_conv = nn.Conv2d(c1, c1, k, s, autopad(k), groups=c1)
        self.norm = ChannelNorm(c1)
        self.act = nn.GELU()
        self.offset = nn.Conv2d(c1, 2 * groups * k * k, 1)
        self.mask = nn.Conv2d(c1, groups * k * k, 1)
        self.input_proj = nn.Conv2d(c1, c1, 1)
        self.output_proj = nn.Conv2d(c1, c1, 1)
        for layer in (self.offset, self.mask):
            nn.init.zeros_(layer.weight)
        for layer in (self.input_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.offset, self.mask, self.input_proj, self.output_proj):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height / s, width / s)."""
        batch, channels, in_height, in_width = x_BCHW.shape
        seen = self.act(self.norm(self.dw_conv(x_BCHW)))
        height, width = seen.shape[2:]
        taps = self.k * self.k
        offset = self.offset(seen).float().reshape(batch * self.groups, taps, 2, height, width)
        share = self.mask(seen).reshape(batch * self.groups, 1, taps, height, width).softmax(2)
        tap_T11 = torch.arange(taps, device=x_BCHW.device).reshape(-1, 1, 1)
        row_H1, column_W = positions(height, width, self.s, x_BCHW)
        # The official order goes down each column of the kernel; an offset's column comes before its row.
        row = offset[:, :, 1] + row_H1 + tap_T11 % self.k * self.d - self.p
        column = offset[:, :, 0] + column_W + torch.div(tap_T11, self.k, rounding_mode="floor") * self.d - self.p
        value = self.input_proj(x_BCHW).reshape(batch * self.groups, -1, in_height, in_width)
        mixed = (sample_points(value, row, column, "zeros") * share).sum(2)
        y: Tensor = self.output_proj(mixed.reshape(batch, channels, height, width))
        return y


class DCNv3(nn.Module):
    """Deformable convolution v3, batch norm, activation.

    Takes its arguments in the order of a Conv row, so that it can stand in for one.

    Args:
        c1: Input channels.
        c2: Output channels, a multiple of ``groups``.
        k: Kernel size, odd.
        s: Stride.
        p: Padding; only what keeps the size at stride 1 (None or ``k // 2`` times the dilation).
        groups: See :class:`DeformV3`.
        d: Dilation.
        act: Apply SiLU behind the norm.

    Raises:
        ArgumentError: A value is below 1, ``k`` is even, another padding, or ``groups`` does not divide ``c2``.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 3,
        s: int = 1,
        p: int | None = None,
        groups: int = 4,
        d: int = 1,
        act: bool = True,
    ) -> None:
        super().__init__()
        require_positive("DCNv3", c1=c1, c2=c2, k=k, s=s, groups=groups, d=d)
        require_padding("DCNv3", p)
        require_multiple("DCNv3", "groups", groups, c2=c2)
        if k % 2 == 0:
            raise ArgumentError(f"DCNv3: k must be odd, found {k}")
        if p not in (None, autopad(k, None, d)):
            raise ArgumentError(f"DCNv3: p must be None or {autopad(k, None, d)} here, found {p}")
        self.widen = ConvNormAct(c1, c2, 1) if c1 != c2 else nn.Identity()
        self.conv = DeformV3(c2, k, s, None, d, groups)
        self.bn: nn.Module = nn.BatchNorm2d(c2)
        self.act = activation(act)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, ceil(height / s), ceil(width / s))."""
        y: Tensor = self.act(self.bn(self.conv(self.widen(x_BCHW))))
        return y

    @torch.no_grad()
    def fuse(self) -> DCNv3:
        """Fold the batch norms into the projections in front of them, in place; idempotent."""
        if isinstance(self.widen, ConvNormAct):
            self.widen.fuse()
        last = self.conv.output_proj
        if isinstance(self.bn, nn.BatchNorm2d) and holds_weight(last):
            assert last.bias is not None
            weight, shift = fold_batch_norm(last.weight, self.bn)
            last.bias.copy_(last.bias * batch_norm_affine(self.bn)[0] + shift)
            last.weight.copy_(weight)
            self.bn = nn.Identity()
        return self
