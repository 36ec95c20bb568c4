"""What a module name in a row is: a stock module, a graft, a backbone, or nothing."""

from __future__ import annotations

from typing import Any

from detgraft.catalog.registry import catalogue
from detgraft.errors import Location, PlanError
from detgraft.upstream.release.capabilities import stock_module, stock_names


def is_pyramid(name: str) -> bool:
    """Say whether a YAML module name is a backbone."""
    entry = catalogue.find(name)
    return entry is not None and entry.channels == "pyramid"


def is_graft(name: str) -> bool:
    """Say whether a YAML module name is a graft. A stock module of that name wins."""
    return stock_module(name) is None and catalogue.find(name) is not None


def check_name(name: str, location: Location) -> None:
    """Raise when neither Ultralytics nor the catalogue has a module of that name.

    Raises:
        PlanError: With file, line and the nearest names.
    """
    if stock_module(name) is None and catalogue.find(name) is None:
        prefixed = [f"nn.{name}"] if stock_module(f"nn.{name}") is not None else []
        advice = catalogue.advice(name, [*stock_names(), *prefixed])
        raise PlanError(f"there is no module '{name}' in this Ultralytics or in detgraft.{advice}", location)


def names_grafts(mapping: dict[str, Any]) -> bool:
    """Say whether any row of a model description names a graft."""
    rows = [*(mapping.get("backbone") or ()), *(mapping.get("head") or ())]
    return any(
        isinstance(row, (list, tuple)) and len(row) == 4 and isinstance(row[2], str) and is_graft(row[2])
        for row in rows
    )
