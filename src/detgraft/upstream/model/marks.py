"""How a grafted model is told from a stock one."""

from __future__ import annotations

from typing import Any

from torch import nn

MARK = "detgraft_version"
"""Attribute that a grafted Ultralytics model carries: the detgraft version that built it."""


def is_grafted(model: object) -> bool:
    """Say whether an Ultralytics model holds grafts."""
    return hasattr(model, MARK)


def is_stock(module: nn.Module) -> bool:
    """Say whether a module is Ultralytics' own."""
    return type(module).__module__.startswith("ultralytics.")


def source_of(weights: Any) -> Any:
    """Return the model in what ``BaseModel.load`` accepts: a checkpoint dict or a model."""
    return (weights.get("ema") or weights["model"]) if isinstance(weights, dict) else weights


def notes_on(model: nn.Module) -> list[str]:
    """Return what was noted about a model's rows when it was built."""
    layers: Any = getattr(model, "model", ())
    return [str(layer.note) for layer in layers if getattr(layer, "note", "")]
