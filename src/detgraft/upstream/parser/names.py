"""What a row's module name means: a stock module, a graft, or nothing."""

from __future__ import annotations

import contextlib
from typing import Any

from detgraft.catalog.registry import catalogue
from detgraft.catalog.spec import Graft
from detgraft.errors import DetgraftError, Location, PlanError
from detgraft.plan.meanings import record_of, recorded, row_names
from detgraft.plan.shells import is_shell_text, read_module
from detgraft.upstream.release.capabilities import stock_module, stock_names


def graft_of(name: str, was_graft: bool | None) -> Graft | None:
    """Return the graft that a module name means, or None for a stock module and for a name that nobody has.

    Args:
        name: As written in a row.
        was_graft: What the row was recorded as; None where it is read for the first time, and a stock module of that
            name wins.
    """
    if was_graft is False or (was_graft is None and stock_module(name) is not None):
        return None
    if is_shell_text(name):
        with contextlib.suppress(DetgraftError):  # said with its place by `meaning`
            return read_module(name, Location(name))
        return None
    return catalogue.find(name)


def meaning(name: str, was_graft: bool | None, location: Location) -> Graft | None:
    """Return the graft that a row's module name means, or None for a stock module.

    Args:
        name: As written.
        was_graft: What the row was recorded as, or None.
        location: Where it is written.

    Raises:
        DetgraftError: Nobody has a module of that name, or not the one that the row was recorded with; with the nearest
            names.
    """
    found = graft_of(name, was_graft)
    if found is not None and found.channels == "structure":
        raise PlanError(
            f"'{name}' changes the whole model and is no row; it is a term of an expression, as in yolo11n+{name}",
            location,
        )
    if found is not None or (not was_graft and stock_module(name) is not None):
        return found
    if is_shell_text(name):
        return read_module(name, location)
    if was_graft is not None and (stock_module(name) is not None or catalogue.find(name) is not None):
        whose, other = ("a graft", "Ultralytics'") if was_graft else ("Ultralytics' own", "a graft's")
        raise PlanError(f"'{name}' was {whose} when this was built; here it is {other} name only", location)
    prefixed = [f"nn.{name}"] if stock_module(f"nn.{name}") is not None else []
    advice = catalogue.advice(name, [*stock_names(), *prefixed])
    if "plugins=" not in advice:
        advice += " An own block comes from a file of yours: plugins=FILE."
    raise PlanError(f"there is no module '{name}' in this Ultralytics or in detgraft.{advice}", location)


def grafts_of(mapping: dict[str, Any]) -> list[Graft | None]:
    """Return for every row of a model description the graft that it means, or None."""
    return [
        graft_of(name, was) if name else None for name, was in zip(row_names(mapping), recorded(mapping), strict=True)
    ]


def names_grafts(mapping: dict[str, Any]) -> bool:
    """Say whether any row of a model description means a graft."""
    return any(grafts_of(mapping))


def meanings_of(mapping: dict[str, Any]) -> list[list[str]]:
    """Return what the rows of a description mean, to be kept under :data:`detgraft.plan.meanings.RECORD`."""
    grafts = (graft is not None for graft in grafts_of(mapping))
    return record_of(zip(row_names(mapping), grafts, strict=True))
