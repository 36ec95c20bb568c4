"""What each module of a convolutional backbone does when part of the image is hidden.

Sources: submanifold semantics from FCMAE (arXiv:2301.00808; facebookresearch/ConvNeXt-V2, models/convnextv2_sparse.py)
and batch-norm statistics over visible positions from SparK (arXiv:2301.03580; keyu-tian/SparK, pretrain/encoder.py).
Written from the formulas, on dense tensors: no sparse library is needed.

The rule for every operation that mixes positions: it reads zeros (or nothing) at hidden positions, and what it writes
there is zero. Operations on one position at a time stay as they are; what they write at hidden positions is never read.

Differences from the official sparse ConvNeXt V2: its GRN takes the norm of a channel over the visible positions of the
whole batch together, so an image's features depend on its neighbours in the batch. Here the norm is taken over the
visible positions of each image alone, which is what the dense GRN does in fine-tuning and inference.
Difference from SparK: with several processes the batch-norm statistics are taken over all of them, max pooling never
picks a hidden position, and squeeze-and-excitation averages the visible positions only.

Shape suffixes: B images, C channels, H and W positions, L patches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d, EffectiveSEModule, SEModule
from timm.layers.grn import GlobalResponseNorm
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn

from detgraft.errors import SizeError
from detgraft.pretraining.masking import upsample_mask


class Visibility:
    """Which positions of the current batch are visible, at any resolution of the network.

    One object is shared by all modules of an encoder; :meth:`set` is called once per batch.
    """

    def __init__(self) -> None:
        self._mask_BL: Tensor | None = None
        self._grid = (0, 0)
        self._cache: dict[tuple[tuple[int, int], torch.dtype], Tensor] = {}

    def set(self, mask_BL: Tensor, grid: tuple[int, int]) -> None:
        """Take the masks of a new batch: bool (B, L), True where hidden, for ``grid`` patches down and across."""
        self._mask_BL, self._grid = mask_BL, grid
        self._cache.clear()

    def clear(self) -> None:
        """Forget the batch, so that modules compute as if nothing was hidden."""
        self._mask_BL = None
        self._cache.clear()

    @property
    def active(self) -> bool:
        """Whether a mask is set."""
        return self._mask_BL is not None

    def at(self, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Return (B, 1, H, W) with 1 where visible and 0 where hidden.

        Raises:
            SizeError: If the resolution is not a whole multiple of the patch grid.
        """
        if self._mask_BL is None:
            raise SizeError("no mask is set for this batch")
        key = (size, dtype)
        if key not in self._cache:
            self._cache[key] = (~upsample_mask(self._mask_BL, self._grid, size)).to(dtype)
        return self._cache[key]

    def like(self, x_BCHW: Tensor) -> Tensor:
        """Return the visible positions at the resolution and in the dtype of ``x_BCHW``."""
        return self.at((x_BCHW.shape[2], x_BCHW.shape[3]), x_BCHW.dtype)


Rule = Callable[[Any, Visibility, Tensor], Tensor]


def plain(module: nn.Module, x: Tensor) -> Tensor:
    """Run what the module's own class computes, without the rule laid over this one object."""
    result: Tensor = type(module).forward(module, x)
    return result


def convolve(conv: nn.Conv2d, seen: Visibility, x_BCHW: Tensor) -> Tensor:
    """Submanifold convolution: hidden positions are neither read nor written."""
    if conv.kernel_size == (1, 1) and conv.stride == (1, 1):
        return plain(conv, x_BCHW)
    y_BCHW = plain(conv, x_BCHW * seen.like(x_BCHW))
    return y_BCHW * seen.like(y_BCHW)


def batch_norm(norm: nn.BatchNorm2d, seen: Visibility, x_BCHW: Tensor) -> Tensor:
    """Batch norm whose batch and running statistics come from the visible positions of all processes only."""
    if not norm.training:
        return plain(norm, x_BCHW)
    x = x_BCHW.float()
    mean_C, variance_C, count = visible_statistics(x, seen.like(x))
    _update_running(norm, mean_C.detach(), variance_C.detach(), count)
    scale_C = (variance_C + norm.eps).rsqrt()
    if norm.weight is not None:
        scale_C = scale_C * norm.weight
    shift_C = -mean_C * scale_C
    if norm.bias is not None:
        shift_C = shift_C + norm.bias
    y_BCHW = (x * scale_C.view(1, -1, 1, 1) + shift_C.view(1, -1, 1, 1)).to(x_BCHW.dtype)
    if isinstance(norm, BatchNormAct2d):
        y_BCHW = norm.act(norm.drop(y_BCHW))
    return y_BCHW


def visible_statistics(x_BCHW: Tensor, keep_B1HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (C), biased variance (C) and number of positions, over visible positions of all processes."""
    count = _sum_over_processes(keep_B1HW.sum())
    mean_C = _sum_over_processes((x_BCHW * keep_B1HW).sum(dim=(0, 2, 3))) / count
    centred_BCHW = (x_BCHW - mean_C.view(1, -1, 1, 1)) * keep_B1HW
    variance_C = _sum_over_processes(centred_BCHW.square().sum(dim=(0, 2, 3))) / count
    return mean_C, variance_C, count.detach()


class _SumOverProcesses(torch.autograd.Function):
    """Sum over all processes; every process's output depends on every input, so gradients are summed the same way."""

    @staticmethod
    def forward(_ctx: Any, value: Tensor) -> Tensor:
        return _reduced(value)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return _reduced(gradient)


def _reduced(value: Tensor) -> Tensor:
    total = value.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def _sum_over_processes(value: Tensor) -> Tensor:
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return value
    total: Tensor = _SumOverProcesses.apply(value)
    return total


@torch.no_grad()
def _update_running(norm: nn.BatchNorm2d, mean_C: Tensor, variance_C: Tensor, count: Tensor) -> None:
    if norm.running_mean is None or norm.running_var is None or not norm.track_running_stats:
        return
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    momentum = norm.momentum
    if momentum is None:  # PyTorch's way to ask for the plain average over all batches
        momentum = 1.0 / float(norm.num_batches_tracked) if norm.num_batches_tracked is not None else 1.0
    unbiased_C = variance_C * (count / (count - 1).clamp_min(1))
    norm.running_mean.lerp_(mean_C.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_(unbiased_C.to(norm.running_var.dtype), momentum)


def global_response(norm: GlobalResponseNorm, seen: Visibility, x: Tensor) -> Tensor:
    """GRN with the norm of each image and channel over its visible positions only."""
    if norm.channel_dim == 1:
        return plain(norm, x * seen.like(x))
    keep_B1HW = seen.at((x.shape[1], x.shape[2]), x.dtype)
    return plain(norm, x * keep_B1HW.permute(0, 2, 3, 1))


def average_pool(pool: nn.AvgPool2d, seen: Visibility, x_BCHW: Tensor) -> Tensor:
    """Average over the visible positions of each window; equal to plain pooling where the whole window is visible."""
    keep_B1HW = seen.like(x_BCHW)
    total_BCHW = plain(pool, x_BCHW * keep_B1HW)
    share_B1HW = plain(pool, keep_B1HW)
    # With count_include_pad a plain window at the border has a share below 1; that habit of the layer is kept.
    full_11HW = plain(pool, torch.ones_like(keep_B1HW[:1]))
    kept_B1HW = seen.like(total_BCHW)
    return total_BCHW * (kept_B1HW * full_11HW / share_B1HW.clamp_min(torch.finfo(x_BCHW.dtype).tiny))


def max_pool(pool: nn.MaxPool2d, seen: Visibility, x_BCHW: Tensor) -> Tensor:
    """Maximum over the visible positions of each window, zero at hidden positions."""
    hidden_B1HW = seen.like(x_BCHW) == 0
    y_BCHW = plain(pool, x_BCHW.masked_fill(hidden_B1HW, float("-inf")))
    return y_BCHW.masked_fill(seen.like(y_BCHW) == 0, 0.0)


def visible_mean(seen: Visibility, x_BCHW: Tensor) -> Tensor:
    """Return the mean of each image and channel over its visible positions: (B, C, 1, 1)."""
    keep_B1HW = seen.like(x_BCHW)
    return (x_BCHW * keep_B1HW).sum(dim=(2, 3), keepdim=True) / keep_B1HW.sum(dim=(2, 3), keepdim=True)


def squeeze_excite(module: SEModule, seen: Visibility, x_BCHW: Tensor) -> Tensor:
    """Squeeze-and-excitation (timm's SEModule) that squeezes the visible positions only."""
    squeezed = module.fc2(module.act(module.bn(module.fc1(_squeeze(module, seen, x_BCHW)))))
    return x_BCHW * _gate(module, squeezed)


def effective_squeeze_excite(module: EffectiveSEModule, seen: Visibility, x_BCHW: Tensor) -> Tensor:
    """The one-layer squeeze-and-excitation of timm over the visible positions only."""
    return x_BCHW * _gate(module, module.fc(_squeeze(module, seen, x_BCHW)))


def efficientnet_squeeze_excite(module: SqueezeExcite, seen: Visibility, x_BCHW: Tensor) -> Tensor:
    """EfficientNet's squeeze-and-excitation over the visible positions only."""
    squeezed = module.conv_expand(module.act1(module.conv_reduce(visible_mean(seen, x_BCHW))))
    return x_BCHW * _gate(module, squeezed)


def _gate(module: Any, squeezed: Tensor) -> Tensor:
    factor: Tensor = module.gate(squeezed)
    return factor


def _squeeze(module: SEModule | EffectiveSEModule, seen: Visibility, x_BCHW: Tensor) -> Tensor:
    squeezed = visible_mean(seen, x_BCHW)
    if module.add_maxpool:
        shown_BCHW = x_BCHW.masked_fill(seen.like(x_BCHW) == 0, float("-inf"))
        squeezed = 0.5 * squeezed + 0.5 * shown_BCHW.amax(dim=(2, 3), keepdim=True)
    return squeezed


# Modules that mix positions, with what they do under a mask; a subclass without an entry of its own takes its parent's.
RULES: dict[type[nn.Module], Rule] = {
    nn.Conv2d: convolve,
    nn.BatchNorm2d: batch_norm,
    nn.AvgPool2d: average_pool,
    nn.MaxPool2d: max_pool,
    GlobalResponseNorm: global_response,
    SEModule: squeeze_excite,
    EffectiveSEModule: effective_squeeze_excite,
    SqueezeExcite: efficientnet_squeeze_excite,
}
# Their rule runs the children on a pooled (B, C, 1, 1) map, which no mask applies to.
CLOSED: tuple[type[nn.Module], ...] = (SEModule, EffectiveSEModule, SqueezeExcite)
