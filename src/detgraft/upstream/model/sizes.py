"""Which image sizes a model takes."""

from __future__ import annotations

import torch
from torch import nn

from detgraft.errors import SizeError
from detgraft.plan.meanings import COMPOSED


def largest_stride(model: nn.Module) -> int:
    """Return the largest stride of an Ultralytics model; 1 where it has none."""
    stride = getattr(model, "stride", None)
    return int(stride.max()) if isinstance(stride, torch.Tensor) and stride.numel() else 1


def widen_stride(model: nn.Module) -> None:
    """Tell a model of its largest stride, where it has a level of stride 64 and its head says nothing of strides.

    Ultralytics takes 32 for RT-DETR and depth models; pictures of other multiples would fail in the neck.

    Args:
        model: An Ultralytics model that was composed from an expression.
    """
    mapping = getattr(model, "yaml", None)
    record = mapping.get(COMPOSED) if isinstance(mapping, dict) else None
    levels = record.get("levels", ()) if isinstance(record, dict) else ()
    if levels and max(levels) > largest_stride(model):
        model.stride = torch.tensor([float(max(levels))])


def check_size(size: tuple[int, ...], stride: int) -> None:
    """Raise when an image size is not a multiple of the largest stride.

    Args:
        size: Height and width in pixels.
        stride: The model's largest stride.

    Raises:
        SizeError: Names the nearest sizes that work.
    """
    for value in size:
        if value <= 0 or value % stride:
            below, above = max(value // stride, 1) * stride, (max(value, 0) // stride + 1) * stride
            options = f"{below} or {above}" if below != above else str(below)
            raise SizeError(f"the image size {value} is not a multiple of the model's stride {stride}; use {options}")
