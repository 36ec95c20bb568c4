"""What people would use otherwise, written for these benchmarks from the formulas."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def unfolded_carafe(x_BCHW: Tensor, mask: Tensor, k_up: int, scale: int) -> Tensor:
    """CARAFE at the output's resolution: nearest upsampling, dilated unfold, weighted sum."""
    batch, channels, height, width = x_BCHW.shape
    enlarged = F.interpolate(x_BCHW, scale_factor=scale, mode="nearest")
    columns = F.unfold(enlarged, k_up, dilation=scale, padding=k_up // 2 * scale)
    columns = columns.view(batch, channels, k_up * k_up, height * scale, width * scale)
    return torch.einsum("bkhw,bckhw->bchw", mask, columns)


class PermutedBlock(nn.Module):
    """A ConvNeXt V2 block as the paper's code has it: NCHW outside, permuted for the norm and the linear layers."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.dwconv = block.conv_dw
        self.norm = block.norm
        self.pwconv1 = _as_linear(block.mlp.fc1)
        self.grn = block.mlp.grn
        self.pwconv2 = _as_linear(block.mlp.fc2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y = self.dwconv(x_BCHW).permute(0, 2, 3, 1)
        y = F.layer_norm(y, self.norm.normalized_shape, self.norm.weight, self.norm.bias, 1e-6)
        y = F.gelu(self.pwconv1(y))
        size = torch.norm(y, p=2, dim=(1, 2), keepdim=True)
        share = size / (size.mean(dim=-1, keepdim=True) + 1e-6)
        y = self.grn.weight * (y * share) + self.grn.bias + y
        y = self.pwconv2(y)
        return x_BCHW + y.permute(0, 3, 1, 2)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of NCHW features, from its formula."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mean = x_BCHW.mean(1, keepdim=True)
        variance = (x_BCHW - mean).pow(2).mean(1, keepdim=True)
        x_BCHW = (x_BCHW - mean) / torch.sqrt(variance + 1e-6)
        return self.weight[:, None, None] * x_BCHW + self.bias[:, None, None]


class PermutedConvNeXtV2(nn.Module):
    """The tutorial's form of the backbone, around the weights of a timm model, which is left as it is."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.stem = nn.Sequential(net.stem_0, ChannelNorm(net.stem_1))
        self.stages = nn.ModuleList()
        for i in range(4):
            stage = getattr(net, f"stages_{i}")
            down = stage.downsample
            first = [] if isinstance(down, nn.Identity) else [ChannelNorm(down[0]), down[1]]
            self.stages.append(nn.Sequential(*first, *(PermutedBlock(block) for block in stage.blocks)))

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        x_BCHW = self.stem(x_BCHW)
        features = []
        for stage in self.stages:
            x_BCHW = stage(x_BCHW)
            features.append(x_BCHW)
        return features


def _as_linear(layer: Any) -> nn.Module:
    linear = nn.Linear(layer.weight.shape[1], layer.weight.shape[0], device="meta")
    linear.weight, linear.bias = nn.Parameter(layer.weight.detach().flatten(1).clone()), layer.bias
    return linear


class GroupedDynamicConv(nn.Module):
    """The dynamic convolution as one grouped convolution over the whole batch, around the weights of ours."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.ours = ours

    def forward(self, x_BCHW: Tensor) -> Tensor:
        ours = self.ours
        batch, _, height, width = x_BCHW.shape
        routing = torch.sigmoid(ours.routing(F.adaptive_avg_pool2d(x_BCHW, 1).flatten(1)))
        c2, c1_per_group, k, _ = ours.cond_conv.kernel_shape
        kernels = torch.matmul(routing, ours.cond_conv.weight).view(batch * c2, c1_per_group, k, k)
        y = F.conv2d(x_BCHW.reshape(1, -1, height, width), kernels, None, ours.s, ours.p, ours.d, batch * ours.g)
        return y.view(batch, c2, y.shape[2], y.shape[3])
