"""How a grafted model is told from a stock one."""

from __future__ import annotations

from torch import nn

MARK = "detgraft_version"
"""Attribute that a grafted Ultralytics model carries: the detgraft version that built it."""


def is_grafted(model: object) -> bool:
    """Say whether an Ultralytics model holds grafts."""
    return hasattr(model, MARK)


def is_stock(module: nn.Module) -> bool:
    """Say whether a module is Ultralytics' own."""
    return type(module).__module__.startswith("ultralytics.")
