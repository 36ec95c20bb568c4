"""Which rows of a description name weights files or ask for a download, and the description without them.

Beside the file a row may say which pixels the weights expect: ``input=unit``, or numbers. That stays in a built model's
description, since it is part of what the model computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from detgraft.catalog.registry import catalogue
from detgraft.catalog.spec import Graft
from detgraft.plan.meanings import recorded, rows_of

TORCHVISION = "TorchVision"
"""Ultralytics' module that wraps a model of torchvision; its weights are ``DEFAULT`` where a row says nothing."""

IMAGENET = "imagenet"
"""What a row says instead of a file to get timm's default weights."""

INPUT = "input="
"""What a text of a backbone's row begins with that says which pixels its weights expect."""


def is_input(value: object) -> bool:
    """Whether an argument of a backbone's row says which pixels its weights expect."""
    return isinstance(value, str) and value.startswith(INPUT)


def input_of(args: Iterable[object]) -> str | None:
    """Return what a backbone's row says behind ``input=``, or None; the last one where there are several."""
    found = [value.removeprefix(INPUT) for value in args if isinstance(value, str) and is_input(value)]
    return found[-1] if found else None


def without_files(mapping: dict[str, Any]) -> dict[str, Any]:
    """Take the weights files out of a model description: a built model holds the weights themselves.

    Args:
        mapping: A model description; changed in place and returned.
    """
    for row, entry in _rows(mapping):
        if entry is not None and entry.takes_weights:
            row[3] = [a for a in row[3] if not isinstance(a, str) or a in ("auto", "nc") or is_input(a)]
    return without_downloads(mapping)


def without_downloads(mapping: dict[str, Any]) -> dict[str, Any]:
    """Take out of a description what would be fetched from the network while it is built.

    That is torchvision's weights (``TorchVision, [512, resnet18, DEFAULT]``) and timm's (``imagenet``).

    Args:
        mapping: A model description; changed in place and returned.
    """
    for row, entry in _rows(mapping):
        if row[2] == TORCHVISION:
            row[3] = [*row[3][:2], None, *row[3][3:]]
        elif entry is not None and entry.takes_weights:
            row[3] = [value for value in row[3] if value != IMAGENET]
    return mapping


def _rows(mapping: dict[str, Any]) -> Iterator[tuple[list[Any], Graft | None]]:
    """Yield every whole row and the graft that it means, or None."""
    for row, was_graft in zip(rows_of(mapping), recorded(mapping), strict=True):
        if _is_row(row):
            is_graft = not catalogue.is_stock(row[2]) if was_graft is None else was_graft
            yield row, catalogue.find(row[2]) if is_graft else None


def _is_row(row: object) -> bool:
    return isinstance(row, (list, tuple)) and len(row) == 4 and isinstance(row[2], str) and isinstance(row[3], list)
