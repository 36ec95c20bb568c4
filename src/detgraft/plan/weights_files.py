"""Which rows of a description name weights files, and the description without them."""

from __future__ import annotations

from typing import Any

from detgraft.catalog.registry import catalogue
from detgraft.plan.document import SECTIONS


def without_files(mapping: dict[str, Any]) -> dict[str, Any]:
    """Take the weights files out of a model description: a built model holds the weights themselves.

    Args:
        mapping: A model description; changed in place and returned.
    """
    for section in SECTIONS:
        for row in mapping.get(section) or ():
            entry = catalogue.find(row[2])
            if entry is not None and entry.takes_weights:
                row[3] = [a for a in row[3] if not isinstance(a, str) or a in ("auto", "nc")]
    return mapping
