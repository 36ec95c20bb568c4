"""UniRepLKNet's block: one large depthwise kernel that dilated small ones stand beside in training.

Paper: "UniRepLKNet: A Universal Perception Large-Kernel ConvNet", CVPR 2024.
Official source: github.com/AILab-CVC/UniRepLKNet, unireplknet.py (``UniRepLKNetBlock``), read at
commit b5677d8fb0e7b8af61eac39c1bf02727f5afc1d5. Licence: Apache-2.0. No weights are used.

Differences: no drop path, no kernels written for CUDA; the linear layers are 1x1 convolutions.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_positive
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.parts.fusing import batch_norm_affine, fold_batch_norm, holds_weight
from detgraft.blocks.parts.response_norm import ResponseNorm
from detgraft.blocks.se import SE
from detgraft.errors import ArgumentError

BRANCHES: dict[int, tuple[tuple[int, int], ...]] = {
    3: (),
    5: (),
    7: ((5, 1), (3, 2), (3, 3)),
    9: ((5, 1), (5, 2), (3, 3), (3, 4)),
    11: ((5, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    15: ((5, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    17: ((5, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
}
"""Kernel size: kernel size and dilation of each small kernel beside it; 3 and 5 have none."""


class DilatedReparam(nn.Module):
    """Depthwise k x k convolution with smaller dilated ones beside it, each with a batch norm; one more behind the sum.

    Args:
        c1: Input channels; the output has as many.
        k: Kernel size, one of :data:`BRANCHES`.
    """

    def __init__(self, c1: int, k: int) -> None:
        super().__init__()
        self.k = k
        branches = BRANCHES[k]
        self.lk_origin = nn.Conv2d(c1, c1, k, padding=k // 2, groups=c1, bias=False)
        self.origin_bn: nn.Module = nn.BatchNorm2d(c1) if branches else nn.Identity()
        self.branches = nn.ModuleList(ConvNormAct(c1, c1, size, g=c1, d=d, act=False) for size, d in branches)
        self.norm: nn.Module = nn.BatchNorm2d(c1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        y: Tensor = self.origin_bn(self.lk_origin(x_BCHW))
        for branch in self.branches:
            y = y + branch(x_BCHW)
        normed: Tensor = self.norm(y)
        return normed

    @torch.no_grad()
    def fuse(self) -> DilatedReparam:
        """Turn everything into the one convolution ``lk_origin``, in place; idempotent."""
        conv, norm = self.lk_origin, self.norm
        if not isinstance(norm, nn.BatchNorm2d) or not holds_weight(conv):
            return self
        scale_C, shift_C = batch_norm_affine(norm)
        weight, bias = conv.weight.to(scale_C.dtype), torch.zeros_like(shift_C)
        if isinstance(self.origin_bn, nn.BatchNorm2d):
            weight, bias = fold_batch_norm(weight, self.origin_bn)
        for branch in self.branches:
            assert isinstance(branch, ConvNormAct)
            assert isinstance(branch.bn, nn.BatchNorm2d)
            small, shift = fold_batch_norm(branch.conv.weight, branch.bn)
            spread = small.new_zeros(len(small), 1, self.k, self.k)
            dilation, size = branch.conv.dilation[0], branch.conv.kernel_size[0]
            first = self.k // 2 - dilation * (size // 2)
            taps = slice(first, first + dilation * (size - 1) + 1, dilation)
            spread[:, :, taps, taps] = small
            weight, bias = weight + spread, bias + shift
        conv.weight.copy_(weight * scale_C[:, None, None, None])
        conv.bias = nn.Parameter(
            (bias * scale_C + shift_C).to(conv.weight.dtype), requires_grad=conv.weight.requires_grad
        )
        self.branches, self.origin_bn, self.norm = nn.ModuleList(), nn.Identity(), nn.Identity()
        return self


class UniRepLKBlock(nn.Module):
    """Large depthwise kernel, squeeze and excitation, 1x1, GELU, response norm, 1x1, layer scale, plus the input.

    Args:
        c1: Input channels; the output has as many.
        k: Kernel size, one of 3, 5, 7, 9, 11, 13, 15, 17.
        ffn: Hidden channels of the 1x1 convolutions as a multiple of ``c1``.
        scale: Value at which the layer scale starts.

    Raises:
        ArgumentError: A value is below 1, or another kernel size.
    """

    def __init__(self, c1: int, k: int = 7, ffn: int = 4, scale: float = 1e-6) -> None:
        super().__init__()
        require_positive("UniRepLKBlock", c1=c1, ffn=ffn)
        if k not in BRANCHES:
            raise ArgumentError(f"UniRepLKBlock: k must be one of {', '.join(map(str, BRANCHES))}, found {k!r}")
        self.dwconv = DilatedReparam(c1, k)
        self.se = SE(c1, 4)
        self.pwconv1 = nn.Conv2d(c1, c1 * ffn, 1)
        self.act = nn.GELU()
        self.grn = ResponseNorm(c1 * ffn)
        self.pwconv2 = ConvNormAct(c1 * ffn, c1, 1, act=False)
        self.gamma = nn.Parameter(torch.full((c1,), scale))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        hidden = self.grn(self.act(self.pwconv1(self.se(self.dwconv(x_BCHW)))))
        y: Tensor = x_BCHW + self.pwconv2(hidden) * self.gamma[:, None, None]
        return y

    def fuse(self) -> UniRepLKBlock:
        """Fold the batch norms and the small kernels, in place; idempotent."""
        self.dwconv.fuse()
        self.pwconv2.fuse()
        return self
