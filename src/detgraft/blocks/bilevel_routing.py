"""Bi-level routing attention: each window first picks the few windows that matter to it, then attends to their pixels.

Paper: "BiFormer: Vision Transformer with Bi-Level Routing Attention", CVPR 2023.
Official source: github.com/rayleizhu/BiFormer, ops/bra_legacy.py (``BiLevelRoutingAttention``), read at commit
1697bbbeafb8680524898f1dcaac10defd0604be. Licence: MIT. No weights are used.

Differences: the linear layers are 1x1 convolutions over channels that come second; a picture is always padded to whole
windows (officially by ``auto_pad``); of the options only the default form is built.

Shape suffixes: B batch, P windows, N pixels of a window, K picked windows, M heads, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.dynamic_conv import batch_may_vary
from detgraft.blocks.parts.arguments import require_multiple, require_positive
from detgraft.errors import ArgumentError


class BiLevelRouting(nn.Module):
    """Attention of each window to the ``topk`` windows that resemble it most, plus a depthwise view of the values.

    Args:
        c1: Input channels, a multiple of ``heads``; the output has as many.
        heads: Heads.
        windows: Windows along each side of the picture.
        topk: Windows that each window attends to.
        k: Kernel size of the depthwise view, odd.

    Raises:
        ArgumentError: A value is below 1, ``k`` is even, more windows picked than there are, or ``heads`` does not
            divide ``c1``.
    """

    def __init__(self, c1: int, heads: int = 8, windows: int = 7, topk: int = 4, k: int = 3) -> None:
        super().__init__()
        require_positive("BiLevelRouting", c1=c1, heads=heads, windows=windows, topk=topk, k=k)
        require_multiple("BiLevelRouting", "heads", heads, c1=c1)
        if topk > windows * windows:
            raise ArgumentError(f"BiLevelRouting: topk={topk} windows of {windows * windows} cannot be picked")
        if k % 2 == 0:
            raise ArgumentError(f"BiLevelRouting: k must be odd, found {k}")
        self.heads, self.windows, self.topk, self.scale = heads, windows, topk, c1**-0.5
        self.qkv = nn.Conv2d(c1, 3 * c1, 1)
        self.lepe = nn.Conv2d(c1, c1, k, padding=k // 2, groups=c1)
        self.wo = nn.Conv2d(c1, c1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c1, height, width)."""
        height, width = x_BCHW.shape[2:]
        right, bottom = -width % self.windows, -height % self.windows
        if batch_may_vary() or right or bottom:  # an exported graph may see other sizes than the example
            x_BCHW = F.pad(x_BCHW, (0, right, 0, bottom))
        query, key, value = self.qkv(x_BCHW).chunk(3, 1)
        seen = self.lepe(value)
        query_BPNC, key_BPNC, value_BPNC = (self._by_window(part) for part in (query, key, value))
        with torch.no_grad():  # what is picked has no gradient
            alike_BPP = query_BPNC.mean(2).float() * self.scale @ key_BPNC.mean(2).float().transpose(1, 2)
            picked_BPK = alike_BPP.topk(self.topk, -1).indices
        query_BPMNC = self._by_head(query_BPNC) * self.scale
        key_BPMNC, value_BPMNC = (self._by_head(self._gather(part, picked_BPK)) for part in (key_BPNC, value_BPNC))
        weights = (query_BPMNC @ key_BPMNC.transpose(-2, -1)).softmax(-1)
        mixed_BPNC = (weights @ value_BPMNC).transpose(2, 3).flatten(3)
        size = (height + bottom) // self.windows, (width + right) // self.windows
        split = mixed_BPNC.reshape(-1, self.windows, self.windows, *size, x_BCHW.shape[1]).permute(0, 5, 1, 3, 2, 4)
        mixed_BCHW = split.reshape(-1, x_BCHW.shape[1], height + bottom, width + right)
        y: Tensor = self.wo(mixed_BCHW + seen)[:, :, :height, :width]
        return y

    def _by_window(self, x_BCHW: Tensor) -> Tensor:
        batch, channels, height, width = x_BCHW.shape
        side = self.windows
        split = x_BCHW.reshape(batch, channels, side, height // side, side, width // side).permute(0, 2, 4, 3, 5, 1)
        return split.reshape(batch, side * side, -1, channels)

    def _by_head(self, x_BPNC: Tensor) -> Tensor:
        return x_BPNC.reshape(*x_BPNC.shape[:3], self.heads, -1).transpose(2, 3)

    def _gather(self, x_BPNC: Tensor, picked_BPK: Tensor) -> Tensor:
        """Return the pixels of the picked windows one after the other: shape (batch, P, K * N, channels)."""
        batch, windows, pixels, channels = x_BPNC.shape
        first_B11 = torch.arange(batch, device=x_BPNC.device).reshape(-1, 1, 1) * windows
        found = x_BPNC.flatten(0, 1).index_select(0, (picked_BPK + first_B11).flatten())
        return found.reshape(batch, windows, self.topk * pixels, channels)
