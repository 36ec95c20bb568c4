"""Which rows of a description are grafts: decided when it is composed or built, and written into it.

A later Ultralytics may have a class under the name of a graft. What is read fresh takes the stock class then; a row
that detgraft has composed or built before stays what it was, in an expression as in a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from detgraft.plan.document import SECTIONS

RECORD = "detgraft_rows"
"""Key of a description under which each row's name stands with its meaning; Ultralytics ignores it."""

COMPOSED = "detgraft"
"""Key of a composed description under which it says how it came about; Ultralytics ignores it."""

GRAFT, STOCK = "graft", "stock"


def rows_of(mapping: Mapping[str, Any]) -> list[Any]:
    """Return all rows of a description, backbone first; none for a section that is no list."""
    return [row for section in SECTIONS if isinstance(mapping.get(section), list) for row in mapping[section]]


def row_names(mapping: Mapping[str, Any]) -> list[str]:
    """Return the module name of every row, backbone first; an empty text for a row that has none."""
    return [
        row[2] if isinstance(row, (list, tuple)) and len(row) == 4 and isinstance(row[2], str) else ""
        for row in rows_of(mapping)
    ]


def recorded(mapping: Mapping[str, Any]) -> list[bool | None]:
    """Say for every row whether it was recorded as a graft; None for a row that was never, or not under this name.

    Args:
        mapping: A model description.
    """
    names = row_names(mapping)
    record = mapping.get(RECORD)
    if not isinstance(record, list) or len(record) != len(names):
        return [None] * len(names)
    known = {GRAFT: True, STOCK: False}
    return [
        known.get(str(entry[1])) if isinstance(entry, (list, tuple)) and len(entry) == 2 and entry[0] == name else None
        for entry, name in zip(record, names, strict=True)
    ]


def record_of(rows: Iterable[tuple[str, bool]]) -> list[list[str]]:
    """Return what is written under :data:`RECORD`.

    Args:
        rows: The name of every row and whether it is a graft.
    """
    return [[name, GRAFT if graft else STOCK] for name, graft in rows]
