"""ODConv: a convolution whose kernels are weighed per picture along all four of their dimensions.

Paper: "Omni-Dimensional Dynamic Convolution", ICLR 2022.
Official source: github.com/OSVAI/ODConv, modules/odconv.py and models/od_mobilenetv2.py (``ODConvBNReLU``), read at
commit 0901cc1ccd75757b40420447db20603d30bd2f74. Licence: Apache-2.0. No weights are used.
Two forms: ``ODConv`` is the bare convolution; ``ODConvBNAct`` is the official unit, a batch norm and an activation
behind it. Theirs is ReLU6; here it is SiLU, as in the other rows of a YOLO.

Differences: a picture that is alone in its batch is normalised by the running statistics in training, too: behind the
global pooling there is one value per channel, for which the official code raises. The kernels are mixed before the
spatial weights are applied, which is the same sum in less memory. In a traced or exported graph, which must not carry
the batch size as a number of groups, the sum is a batched matrix product over unfolded windows. The temperature is an
argument (1 by default, as officially; the official training script lowers it from 30 over the first epochs).

Shape suffixes: B batch, C channels, M hidden channels, H height, W width, E experts, O output channels, I input
channels per group, K kernel size, G groups.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.dynamic_conv import batch_may_vary
from detgraft.blocks.parts.arguments import require_multiple, require_padding, require_positive
from detgraft.blocks.parts.conv import ConvNormAct, activation, autopad
from detgraft.blocks.parts.fusing import batch_norm_affine, holds_weight
from detgraft.errors import ArgumentError


class PooledBatchNorm(nn.BatchNorm2d):
    """Batch norm behind a global pooling: one value per channel is normalised by the running statistics."""

    def forward(self, x_BM11: Tensor) -> Tensor:
        """Return the normalised input, shape unchanged."""
        if self.training and x_BM11.numel() == x_BM11.shape[1]:
            return F.batch_norm(x_BM11, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x_BM11)


class OmniAttention(nn.Module):
    """Weights per picture for input channels, output channels, kernel positions and experts.

    A dimension that has only one entry, or that a depthwise convolution shares with another, gets no weights.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size.
        g: Groups.
        experts: Number of kernels to mix.
        reduction: Hidden channels as a share of ``c1``, at least 16.
        temperature: Divisor of the scores.
    """

    def __init__(self, c1: int, c2: int, k: int, g: int, experts: int, reduction: float, temperature: float) -> None:
        super().__init__()
        hidden = max(int(c1 * reduction), 16)
        self.temperature = temperature
        self.squeeze = ConvNormAct(c1, hidden, 1, act=nn.ReLU())
        self.squeeze.bn = PooledBatchNorm(hidden)
        depthwise = c1 == g == c2
        self.channel_fc = nn.Conv2d(hidden, c1, 1)
        self.filter_fc = None if depthwise else nn.Conv2d(hidden, c2, 1)
        self.spatial_fc = None if k == 1 else nn.Conv2d(hidden, k * k, 1)
        self.kernel_fc = None if experts == 1 else nn.Conv2d(hidden, experts, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Return weights for channels (B, c1, 1, 1), filters (B, c2, 1, 1), positions (B, k * k) and experts (B, E)."""
        pooled_BM11 = self.squeeze(x_BCHW.mean((2, 3), keepdim=True))
        channel = (self.channel_fc(pooled_BM11) / self.temperature).sigmoid()
        filters = spatial = experts = None
        if self.filter_fc is not None:
            filters = (self.filter_fc(pooled_BM11) / self.temperature).sigmoid()
        if self.spatial_fc is not None:
            spatial = (self.spatial_fc(pooled_BM11) / self.temperature).sigmoid().flatten(1)
        if self.kernel_fc is not None:
            experts = (self.kernel_fc(pooled_BM11) / self.temperature).softmax(1).flatten(1)
        return channel, filters, spatial, experts


class ODConv(nn.Module):
    """Omni-dimensional dynamic convolution, without bias, norm or activation.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size.
        s: Stride.
        p: Padding; None keeps the size at stride 1.
        g: Groups; must divide ``c1`` and ``c2``.
        d: Dilation.
        experts: Number of kernels to mix.
        reduction: Hidden channels of the attention as a share of ``c1``, above 0; at least 16 are kept.
        temperature: Divisor of the attention scores, above 0.

    Raises:
        ArgumentError: A value out of range, or channels that ``g`` does not divide.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 3,
        s: int = 1,
        p: int | None = None,
        g: int = 1,
        d: int = 1,
        experts: int = 4,
        reduction: float = 0.0625,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        require_positive("ODConv", c1=c1, c2=c2, k=k, s=s, g=g, d=d, experts=experts)
        require_padding("ODConv", p)
        require_multiple("ODConv", "g", g, c1=c1, c2=c2)
        if not reduction > 0:
            raise ArgumentError(f"ODConv: reduction must be above 0, found {reduction!r}")
        if not temperature > 0:
            raise ArgumentError(f"ODConv: temperature must be above 0, found {temperature!r}")
        self.k, self.s, self.p, self.g, self.d = k, s, autopad(k, p, d), g, d
        self.attention = OmniAttention(c1, c2, k, g, experts, reduction, temperature)
        self.weight = nn.Parameter(torch.empty(experts, c2, c1 // g, k, k))
        for expert in self.weight.detach():
            nn.init.kaiming_normal_(expert, mode="fan_out", nonlinearity="relu")
        self.bias: nn.Parameter | None
        self.register_parameter("bias", None)  # only a folded batch norm brings one

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, height / s, width / s)."""
        channel, filters, spatial, experts = self.attention(x_BCHW)
        x_BCHW = x_BCHW * channel
        if spatial is None and experts is None:
            y_BOHW = F.conv2d(x_BCHW, self.weight[0], None, self.s, self.p, self.d, self.g)
        else:
            kernels_BOIKK = self._mixed(spatial, experts)
            convolve = self._any_batch if batch_may_vary() or x_BCHW.shape[0] == 0 else self._this_batch
            y_BOHW = convolve(x_BCHW, kernels_BOIKK.to(x_BCHW.dtype))
        if filters is not None:
            y_BOHW = y_BOHW * filters
        return y_BOHW if self.bias is None else y_BOHW + self.bias[:, None, None]

    def fuse(self) -> ODConv:
        """Fold the attention's batch norm, in place; idempotent."""
        self.attention.squeeze.fuse()
        return self

    def _mixed(self, spatial: Tensor | None, experts: Tensor | None) -> Tensor:
        shape = self.weight.shape[1:]
        kernels_BOIKK: Tensor = self.weight
        if experts is not None:
            kernels_BOIKK = (experts @ self.weight.flatten(1)).reshape(-1, *shape)
        if spatial is not None:
            kernels_BOIKK = kernels_BOIKK * spatial.reshape(-1, 1, 1, self.k, self.k)
        return kernels_BOIKK

    def _this_batch(self, x_BCHW: Tensor, kernels_BOIKK: Tensor) -> Tensor:
        # One grouped convolution for all pictures: each is a set of groups of its own.
        batch = x_BCHW.shape[0]
        x_1CHW = x_BCHW.reshape(1, -1, *x_BCHW.shape[2:])
        y_1OHW = F.conv2d(x_1CHW, kernels_BOIKK.flatten(0, 1), None, self.s, self.p, self.d, batch * self.g)
        return y_1OHW.reshape(batch, -1, *y_1OHW.shape[2:])

    def _any_batch(self, x_BCHW: Tensor, kernels_BOIKK: Tensor) -> Tensor:
        c2, per_group = self.weight.shape[1], self.weight.shape[2] * self.k * self.k
        reach = self.d * (self.k - 1) + 1
        height, width = ((size + 2 * self.p - reach) // self.s + 1 for size in x_BCHW.shape[2:])
        windows = F.unfold(x_BCHW, self.k, self.d, self.p, self.s)
        windows = windows.reshape(x_BCHW.shape[0], self.g, per_group, height * width)
        kernels = kernels_BOIKK.reshape(x_BCHW.shape[0], self.g, c2 // self.g, per_group)
        return (kernels @ windows).reshape(x_BCHW.shape[0], c2, height, width)


class ODConvBNAct(nn.Module):
    """The official unit: ODConv, batch norm, activation.

    Takes its arguments in the order of a Conv row, so that it can stand in for one.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size.
        s: Stride.
        p: Padding; None keeps the size at stride 1.
        g: Groups.
        d: Dilation.
        act: Apply SiLU behind the norm.
        experts: See :class:`ODConv`.
        reduction: See :class:`ODConv`.
        temperature: See :class:`ODConv`.

    Raises:
        ArgumentError: A value out of range, see :class:`ODConv`.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 3,
        s: int = 1,
        p: int | None = None,
        g: int = 1,
        d: int = 1,
        act: bool = True,
        experts: int = 4,
        reduction: float = 0.0625,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.conv = ODConv(c1, c2, k, s, p, g, d, experts, reduction, temperature)
        self.bn: nn.Module = nn.BatchNorm2d(c2)
        self.act = activation(act)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return shape (batch, c2, height / s, width / s)."""
        y: Tensor = self.act(self.bn(self.conv(x_BCHW)))
        return y

    @torch.no_grad()
    def fuse(self) -> ODConvBNAct:
        """Fold both batch norms, the attention's and the one behind, in place; idempotent."""
        self.conv.fuse()
        if isinstance(self.bn, nn.BatchNorm2d) and holds_weight(self.conv):
            scale_O, shift_O = batch_norm_affine(self.bn)
            weight = self.conv.weight
            weight.copy_((weight.to(scale_O.dtype) * scale_O[:, None, None, None]).to(weight.dtype))
            self.conv.bias = nn.Parameter(shift_O.to(weight.dtype), requires_grad=weight.requires_grad)
            self.bn = nn.Identity()
        return self
