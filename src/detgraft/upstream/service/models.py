"""Models in memory: built with a seed, filled, fused, and how their head answers."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from detgraft.plan.weights_files import without_files
from detgraft.upstream.model.models import build
from detgraft.upstream.release.quiet import quiet


def build_seeded(mapping: dict[str, Any], seed: int, ch: int = 3) -> Any:
    """Build a description after setting torch's seed.

    Args:
        mapping: A model description.
        seed: Seed for the weights.
        ch: Image channels.
    """
    torch.manual_seed(seed)
    with quiet():
        return build(without_files(copy.deepcopy(mapping)), ch=ch)


def load_weights(model: Any, source: Any) -> None:
    """Load a model's weights into another, as training with ``pretrained=`` does."""
    with quiet():
        model.load(source, verbose=False)


def fused_copy(model: Any) -> Any:
    """Return a fused copy in evaluation mode."""
    with quiet():
        return copy.deepcopy(model).float().eval().fuse(verbose=False)


def is_topk(model: nn.Module) -> bool:
    """Say whether a model's answer is a ranked list (RT-DETR, end-to-end heads) instead of one entry per anchor."""
    head: Any = list(model.model)[-1]  # type: ignore[arg-type]
    return type(head).__name__ == "RTDETRDecoder" or bool(getattr(head, "end2end", False))


def is_rtdetr(model: nn.Module) -> bool:
    """Say whether a model has an RT-DETR head."""
    return type(list(model.model)[-1]).__name__ == "RTDETRDecoder"  # type: ignore[arg-type]
