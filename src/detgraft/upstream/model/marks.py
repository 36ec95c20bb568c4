"""How a grafted model is told from a stock one."""

from __future__ import annotations

from typing import Any

from torch import nn

from detgraft.catalog.registry import catalogue
from detgraft.plan.meanings import COMPOSED, RECORD, record_of, row_names, rows_of
from detgraft.plan.rows import layers_of

MARK = "detgraft_version"
"""Attribute that a grafted Ultralytics model carries: the detgraft version that built it."""


def is_grafted(model: object) -> bool:
    """Say whether an Ultralytics model holds grafts."""
    return hasattr(model, MARK)


def is_composed(model: object) -> bool:
    """Say whether a model's rows were moved by an expression; with a level alone it holds no graft, but moved rows."""
    mapping = getattr(model, "yaml", None)
    record = mapping.get(COMPOSED) if isinstance(mapping, dict) else None
    origins = record.get("origins") if isinstance(record, dict) else None
    return isinstance(origins, list) and origins != list(range(len(origins)))


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


def settle_rows(model: object) -> None:
    """Record which rows of an opened model are grafts, as its layers say, where the detgraft that built it did not.

    Args:
        model: What a checkpoint holds as its model.
    """
    mapping, layers = getattr(model, "yaml", None), getattr(model, "model", None)
    if not is_grafted(model) or not isinstance(mapping, dict) or RECORD in mapping or not isinstance(layers, nn.Module):
        return
    types = [getattr(layer, "type", "") for layer in layers.children()]
    found: list[tuple[str, bool]] = []
    index = 0
    for name, row in zip(row_names(mapping), rows_of(mapping), strict=True):
        entry = catalogue.find(name) if types[index : index + 1] == [name] else None
        found.append((name, entry is not None))
        index += layers_of(entry, row[0])
    mapping[RECORD] = record_of(found)
