"""DynamicConv: a convolution whose kernel is mixed for every picture from several experts.

Paper: ParameterNet: Parameters Are All You Need (arXiv 2306.14525), CVPR 2024; the mixing is that of CondConv
(arXiv 1904.04971).
Source: huawei-noah/Efficient-AI-Backbones, ``parameternet_pytorch/cv/parameternet.py`` (BSD-3-Clause), on timm's
``CondConv2d`` (Apache-2.0). No weights.
Two forms:
- ``DynamicConv`` is the tutorial's: the bare mixed convolution, without norm or activation.
- ``DynamicConvBNAct`` is the official unit: a batch norm and an activation follow. Theirs is ReLU by default; here it
  is SiLU, as in the other rows of a YOLO.
Differences: own forward (same state-dict keys and layout as timm's). Eager, one grouped convolution serves the whole
batch, as in timm; on the CPU, a convolution per picture, which is faster (`detgraft.kernels.per_picture`). A graph for
any batch must not carry the batch size as a number of groups, so there the same sum is a batched matrix product per
kernel position. An empty batch is allowed.

Shape suffixes: B batch, C channels, H height, W width, E experts, G groups, N entries of one expert's kernel.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detgraft.blocks.parts.arguments import require_multiple, require_padding, require_positive
from detgraft.blocks.parts.conv import activation
from detgraft.blocks.parts.fusing import batch_norm_affine, holds_weight
from detgraft.kernels.per_picture import conv2d_per_picture, is_faster_per_picture
from detgraft.kernels.recording import is_batch_fixed, is_traced


class ExpertKernels(nn.Module):
    """The experts' kernels, one per row, in the layout of timm's ``CondConv2d``; calling it mixes them.

    Args:
        experts: Number of experts.
        kernel_shape: ``(c2, c1 // groups, k, k)`` of one expert.
        bias: Give each expert a bias, too.
    """

    def __init__(self, experts: int, kernel_shape: tuple[int, int, int, int], bias: bool) -> None:
        super().__init__()
        self.kernel_shape = kernel_shape
        self.weight = nn.Parameter(torch.empty(experts, math.prod(kernel_shape)))
        self.bias: nn.Parameter | None
        self.register_parameter("bias", nn.Parameter(torch.empty(experts, kernel_shape[0])) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every expert as ``nn.Conv2d`` draws its kernel and bias."""
        for expert in self.weight.detach():
            nn.init.kaiming_uniform_(expert.view(self.kernel_shape), a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.kernel_shape[1:]))
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, routing_BE: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return each picture's kernel (B, N) and bias (B, c2) for its weights of the experts.

        A call, because pruning, norms of weights and wrappers prepare a module's parameters when it is called.
        """
        return routing_BE @ self.weight, None if self.bias is None else routing_BE @ self.bias


class DynamicConv(nn.Module):
    """Convolution with a kernel mixed per picture: ``sum_e sigmoid(routing(mean(x)))_e * kernel_e``.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size.
        s: Stride.
        p: Padding; by default timm's symmetric rule ``(s - 1 + d * (k - 1)) // 2``.
        d: Dilation.
        g: Groups; divides ``c1`` and ``c2``.
        bias: Give each expert a bias.
        num_experts: Number of experts.

    Raises:
        ArgumentError: for a size below 1, or groups that do not divide the channels.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 1,
        s: int = 1,
        p: int | None = None,
        d: int = 1,
        g: int = 1,
        bias: bool = False,
        num_experts: int = 4,
    ) -> None:
        super().__init__()
        require_positive("DynamicConv", c1=c1, c2=c2, k=k, s=s, d=d, g=g, num_experts=num_experts)
        require_padding("DynamicConv", p)
        require_multiple("DynamicConv", "g", g, c1=c1, c2=c2)
        self.c2 = c2
        self.k, self.s, self.d, self.g = k, s, d, g
        self.p = (s - 1 + d * (k - 1)) // 2 if p is None else p
        self.routing = nn.Linear(c1, num_experts)
        self.cond_conv = ExpertKernels(num_experts, (c2, c1 // g, k, k), bias)
        # What a folded batch norm adds. The routing weights do not sum to 1, so no expert's bias can carry it.
        self.shift: nn.Parameter | None
        self.register_parameter("shift", None)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, c1, H, W)`` to ``(B, c2, H', W')``."""
        routing_BE = torch.sigmoid(self.routing(F.adaptive_avg_pool2d(x_BCHW, 1).flatten(1)))
        kernels_BN, bias_BC = self.cond_conv(routing_BE)
        if self.shift is not None:
            shift_1C = self.shift.unsqueeze(0)
            bias_BC = shift_1C.expand(kernels_BN.shape[0], -1) if bias_BC is None else bias_BC + shift_1C
        if batch_may_vary() and not is_batch_fixed():
            return self._any_batch(x_BCHW, kernels_BN, bias_BC)
        return self._this_batch(x_BCHW, kernels_BN, bias_BC)

    def _this_batch(self, x_BCHW: Tensor, kernels_BN: Tensor, bias_BC: Tensor | None) -> Tensor:
        batch, channels = int(x_BCHW.shape[0]), x_BCHW.shape[1]
        if batch == 0:  # a convolution with zero groups does not exist; one kernel of zeros gives the shape
            kernel = kernels_BN.new_zeros(self.cond_conv.kernel_shape)
            return F.conv2d(x_BCHW, kernel, None, self.s, self.p, self.d, self.g)
        c2, c1_per_group, k, _ = self.cond_conv.kernel_shape
        kernels = kernels_BN.to(x_BCHW.dtype).view(batch * c2, c1_per_group, k, k)
        bias = None if bias_BC is None else bias_BC.to(x_BCHW.dtype).reshape(batch * c2)
        if batch == 1:
            return F.conv2d(x_BCHW, kernels, bias, self.s, self.p, self.d, self.g)
        if is_faster_per_picture(x_BCHW):
            return conv2d_per_picture(x_BCHW, kernels, bias, self.s, self.p, self.d, self.g)
        x = x_BCHW.reshape(1, batch * channels, *x_BCHW.shape[2:])
        y = F.conv2d(x, kernels, bias, self.s, self.p, self.d, batch * self.g)
        return y.view(batch, c2, y.shape[2], y.shape[3])

    def _any_batch(self, x_BCHW: Tensor, kernels_BN: Tensor, bias_BC: Tensor | None) -> Tensor:
        c2, c1_per_group, k, _ = self.cond_conv.kernel_shape
        kernels = kernels_BN.reshape(-1, self.g, c2 // self.g, c1_per_group, k * k)
        x_padded = F.pad(x_BCHW, (self.p, self.p, self.p, self.p))
        reach = self.d * (k - 1)
        shifts = [slice(self.d * i, self.d * i - reach or None, self.s) for i in range(k)]  # free of any picture's size
        out_height = (x_padded.shape[2] - reach - 1) // self.s + 1
        out_width = (x_padded.shape[3] - reach - 1) // self.s + 1
        total: Tensor | None = None
        for position in range(k * k):
            rows, columns = shifts[position // k], shifts[position % k]
            window = x_padded[:, :, rows, columns].reshape(-1, self.g, c1_per_group, out_height * out_width)
            product = torch.matmul(kernels[..., position], window)
            total = product if total is None else total + product
        assert total is not None  # k is at least 1
        y_BCHW = total.reshape(-1, c2, out_height, out_width)
        return y_BCHW if bias_BC is None else y_BCHW + bias_BC[:, :, None, None]


class DynamicConvBNAct(nn.Module):
    """The official unit: `DynamicConv`, batch norm, activation.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size.
        s: Stride.
        p: Padding, see `DynamicConv`.
        d: Dilation.
        g: Groups.
        num_experts: Number of experts.
        act: ``True`` for SiLU, ``False`` for none, or a module.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 1,
        s: int = 1,
        p: int | None = None,
        d: int = 1,
        g: int = 1,
        num_experts: int = 4,
        act: bool | nn.Module = True,
    ) -> None:
        super().__init__()
        self.conv = DynamicConv(c1, c2, k, s, p, d, g, num_experts=num_experts)
        self.bn: nn.Module = nn.BatchNorm2d(c2)
        self.act = activation(act)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, c1, H, W)`` to ``(B, c2, H', W')``."""
        y: Tensor = self.act(self.bn(self.conv(x_BCHW)))
        return y

    @torch.no_grad()
    def fuse(self) -> DynamicConvBNAct:
        """Fold the batch norm into every expert's kernel and one shared shift, in place; idempotent."""
        if isinstance(self.bn, nn.BatchNorm2d) and holds_weight(self.conv.cond_conv):
            scale_C, shift_C = batch_norm_affine(self.bn)
            weight = self.conv.cond_conv.weight
            per_channel = weight.to(scale_C.dtype).reshape(weight.shape[0], scale_C.shape[0], -1)
            weight.copy_((per_channel * scale_C[None, :, None]).reshape(weight.shape))
            self.conv.shift = nn.Parameter(shift_C.to(weight.dtype), requires_grad=weight.requires_grad)
            self.bn = nn.Identity()
        return self


def batch_may_vary() -> bool:
    """Whether the running forward is being recorded into a graph that other batch sizes will use, too."""
    return is_traced()
