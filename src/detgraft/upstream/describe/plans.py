"""Turns a model description, as Ultralytics passes it around, into a plan with locations."""

from __future__ import annotations

import contextlib
from typing import Any

from detgraft.errors import PlanError
from detgraft.plan.activation import check_activation
from detgraft.plan.document import Document
from detgraft.plan.rows import Plan, document_of, make_plan
from detgraft.upstream.describe.load import read_once
from detgraft.upstream.describe.resolve import locate
from detgraft.upstream.parser.names import check_name, is_pyramid
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
        check_activation(_document_of(mapping))


def plan_of(mapping: dict[str, Any]) -> Plan:
    """Turn a model description as Ultralytics passes it around into a plan with locations.

    Raises:
        PlanError: The description is malformed, or names a module that does not exist.
    """
    return make_plan(_document_of(mapping), is_pyramid, check_name)


def _document_of(mapping: dict[str, Any]) -> Document:
    source = str(mapping.get("yaml_file") or "model description")
    lines = None
    path = locate(source)
    if path is not None:
        with contextlib.suppress(PlanError, OSError):  # the file may have changed since; its lines are a courtesy only
            lines = read_once(path, source)
    return document_of(mapping, source, lines)
