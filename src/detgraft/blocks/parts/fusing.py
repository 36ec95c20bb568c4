"""Folding for inference: one visitor for every block that knows how to simplify itself.

Paper: the folding of a batch norm into the convolution before it is common knowledge; structural re-parameterisation
is described in RepVGG (arXiv 2101.03697). Source: own code from the formula. No weights.

The contract of a block: ``fuse()`` returns the module that its parent should put in its place (itself or a
replacement) and may be called twice. timm's re-parameterisable modules follow it too, or they have a
``reparameterize()`` or ``switch_to_deploy()`` that works in place.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

_IN_PLACE_METHODS = ("reparameterize", "switch_to_deploy")


def fold_batch_norm(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the kernel and the bias of a bias-free convolution that has absorbed the batch norm behind it.

    Args:
        weight: Kernel whose first dimension is the output channel, shape ``(C, ...)``.
        norm: Batch norm over ``C`` channels in evaluation mode's sense: its running statistics are used.

    Returns:
        The kernel (shape and dtype of ``weight``) and the bias ``(C,)``, both detached.
    """
    scale_C, shift_C = batch_norm_affine(norm)
    folded = weight.detach().to(scale_C.dtype) * scale_C.reshape(-1, *[1] * (weight.dim() - 1))
    return folded.to(weight.dtype), shift_C.to(weight.dtype)


@torch.no_grad()
def batch_norm_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return scale and shift ``(C,)`` with ``norm(x) = x * scale + shift`` under its running statistics.

    Computed in float32 at least: half precision would lose small variances.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    dtype = torch.promote_types(norm.running_var.dtype, torch.float32)
    scale_C = (norm.running_var.to(dtype) + norm.eps).rsqrt()
    if norm.weight is not None:
        scale_C = scale_C * norm.weight.to(dtype)
    shift_C = -norm.running_mean.to(dtype) * scale_C
    if norm.bias is not None:
        shift_C = shift_C + norm.bias.to(dtype)
    return scale_C, shift_C


def holds_weight(module: nn.Module) -> bool:
    """Whether a module's ``weight`` is a parameter that can be written to.

    Pruning and norms of weights compute it from other parameters at every call: what is folded into it would be lost,
    and the batch norm with it.
    """
    return module._parameters.get("weight") is not None


def _none(_module: nn.Module) -> bool:
    return False


def fuse_tree(root: nn.Module, leave: Callable[[nn.Module], bool] = _none) -> nn.Module:
    """Simplify every module below ``root`` that knows how, parents before children; return ``root``.

    A parent comes first because its own ``fuse`` may need its children unfused. The global random generators stay
    untouched, although building a replacement convolution draws from them.

    Args:
        root: Changed in place. Its own ``fuse`` is not called.
        leave: Says of a module that its own method is not to be called; what is inside it is visited all the same.
    """
    devices = sorted({p.device.index or 0 for p in root.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        _fuse_children(root, leave)
    return root


def _fuse_children(module: nn.Module, leave: Callable[[nn.Module], bool]) -> None:
    for name, child in list(module.named_children()):
        replacement = child if leave(child) else _fused(child)
        if replacement is not child:
            setattr(module, name, replacement)
        _fuse_children(replacement, leave)


def _fused(module: nn.Module) -> nn.Module:
    reference = next(module.parameters(), None)
    replacement = module
    fuse = getattr(module, "fuse", None)
    if callable(fuse):
        result = fuse()
        replacement = result if isinstance(result, nn.Module) else module
    else:
        method = next((m for name in _IN_PLACE_METHODS if callable(m := getattr(module, name, None))), None)
        if method is not None:
            method()
    if replacement is not module:
        replacement.train(module.training)
        if reference is not None:  # timm's replacements are born in the default dtype
            replacement.to(dtype=reference.dtype)
    return replacement
