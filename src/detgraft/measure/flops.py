"""Counts operations where torch's own counter has no formula: deformable convolution and CPU attention.

A multiplication and an addition are two operations, as everywhere in ``FlopCounterMode``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, flop_registry, sdpa_flop_count


def deform_conv2d_flops(
    input_shape: Any, weight_shape: Any, offset_shape: Any, mask_shape: Any, *_args: Any, out_shape: Any, **_kw: Any
) -> int:
    """Count ``torchvision.ops.deform_conv2d``: the convolution, and the bilinear samples that it reads.

    Args:
        input_shape: (B, C, H, W).
        weight_shape: (O, C / groups, k, k).
        offset_shape: (B, 2 * deform groups * k * k, H', W').
        mask_shape: (B, deform groups * k * k, H', W'), or a placeholder of two dimensions where there is none.
        out_shape: (B, O, H', W').
    """
    batch, channels = input_shape[0], input_shape[1]
    positions = weight_shape[2] * weight_shape[3]
    pixels = out_shape[2] * out_shape[3]
    # A bilinear sample is a weighted sum of four values: four multiplications and three additions, and one
    # multiplication with the mask where there is one.
    samples = batch * channels * positions * pixels
    per_sample = 7 + (1 if len(mask_shape) == 4 else 0)
    convolution = int(conv_flop_count(input_shape, weight_shape, out_shape, transposed=False))
    return int(convolution + samples * per_sample)


def _attention_flops(query: Any, key: Any, value: Any, *_args: Any, out_shape: Any = None, **_kw: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def formulas() -> dict[Any, Callable[..., Any]]:
    """Return the formulas that torch lacks, by operation, for those operations that this build of torch knows."""
    found: dict[Any, Callable[..., Any]] = {}
    # torchvision registers its operations on import, which takes seconds; a model that uses them has imported it.
    if "torchvision" in sys.modules and hasattr(torch.ops.torchvision, "deform_conv2d"):
        found[torch.ops.torchvision.deform_conv2d] = deform_conv2d_flops
    attention = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
    if attention is not None and attention not in flop_registry:
        found[attention] = _attention_flops
    return found


def flop_counter() -> FlopCounterMode:
    """Return torch's counter, extended by the formulas that it lacks."""
    return FlopCounterMode(display=False, custom_mapping=formulas())
