"""Models in memory: built with a seed, filled, fused, and how their head answers."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from detgraft.plan.weights_files import without_files
from detgraft.upstream.model.build import build
from detgraft.upstream.model.input_scales import input_notes
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


def pixels_of(model: nn.Module) -> list[str]:
    """Return a sentence for each backbone that may have pretrained weights: which pixels it expects."""
    return input_notes(model)


def fused_copy(model: Any) -> Any:
    """Return a fused copy in evaluation mode."""
    with quiet():
        return copy.deepcopy(model).float().eval().fuse(verbose=False)


def head_of(model: Any) -> Any:
    """Return a model's last layer."""
    return list(model.model)[-1]


def class_count_of(model: Any) -> int:
    """Return how many classes a model tells apart."""
    return int(getattr(head_of(model), "nc", 0) or model.yaml.get("nc") or 1)


def stated_strides(model: Any) -> list[tuple[int, float]]:
    """Return which layers the head reads, and the stride that it counts each of them with; empty where it has none."""
    head = head_of(model)
    stated = getattr(head, "stride", None)
    sources = head.f if isinstance(head.f, list) else [head.f]
    if not isinstance(stated, torch.Tensor) or len(stated) != len(sources):
        return []
    layers = [int(head.i) - 1 if source == -1 else int(source) for source in sources]
    return list(zip(layers, stated.tolist(), strict=True))


def has_anchors(model: Any) -> bool:
    """Say whether a model answers with one entry per anchor, instead of a ranked list or one answer per picture."""
    return not is_topk(model) and type(head_of(model)).__name__ != "Classify"


def is_topk(model: nn.Module) -> bool:
    """Say whether a model's answer is a ranked list (RT-DETR, end-to-end heads) instead of one entry per anchor."""
    head = head_of(model)
    return type(head).__name__ == "RTDETRDecoder" or bool(getattr(head, "end2end", False))


def is_rtdetr(model: nn.Module) -> bool:
    """Say whether a model has an RT-DETR head."""
    return type(head_of(model)).__name__ == "RTDETRDecoder"
