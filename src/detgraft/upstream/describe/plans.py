"""Turns a model description, as Ultralytics passes it around, into a plan with locations."""

from __future__ import annotations

from typing import Any

from detgraft.plan.activation import check_activation
from detgraft.plan.rows import Plan
from detgraft.upstream.describe.description import description_of
from detgraft.upstream.release.capabilities import stock_module


def refuse_unknown(mapping: dict[str, Any]) -> None:
    """Raise for a description that stock Ultralytics could only fail on; say nothing about all others.

    Raises:
        PlanError: A module name that does not exist, or an ``activation:`` that is no torch.nn activation.
    """
    rows = [*(mapping.get("backbone") or ()), *(mapping.get("head") or ())]
    names = [row[2] for row in rows if isinstance(row, (list, tuple)) and len(row) == 4 and isinstance(row[2], str)]
    if len(names) < len(rows) or not rows or any(stock_module(name) is None for name in names):
        plan_of(mapping)
    if mapping.get("activation"):
        check_activation(description_of(mapping).document)


def plan_of(mapping: dict[str, Any]) -> Plan:
    """Turn a model description as Ultralytics passes it around into a plan with locations.

    Raises:
        PlanError: The description is malformed, or names a module that does not exist.
    """
    return description_of(mapping).plan
