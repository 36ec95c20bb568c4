"""The description behind a model: read, copied, planned, and what stock model it stands on."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.nn import tasks

from detgraft.errors import DetgraftError
from detgraft.plan.rows import Plan
from detgraft.plan.weights_files import without_files
from detgraft.upstream.describe.expressions import RECORD
from detgraft.upstream.describe.plans import plan_of
from detgraft.upstream.describe.resolve import locate, without_scale, zoo_yamls
from detgraft.upstream.model.build import named_description
from detgraft.upstream.parser.names import names_grafts


def description_of(model: str | Path) -> dict[str, Any]:
    """Return the mapping behind a model's name, without building it.

    Raises:
        DetgraftError: There is no such model, or it is malformed.
    """
    description = named_description(model, stock=True)
    return dict(tasks.yaml_model_load(str(model).strip())) if description is None else description.copied()


def mapping_of(model: nn.Module) -> dict[str, Any]:
    """Return a copy of the description that a built model carries."""
    mapping: Any = getattr(model, "yaml", None)
    return copy.deepcopy(mapping) if isinstance(mapping, dict) else {}


def plan_for(mapping: dict[str, Any]) -> Plan | None:
    """Return the plan of a description, or None where it has none (a model that was put together by hand)."""
    try:
        return plan_of(mapping)
    except DetgraftError:
        return None


def for_another_process(mapping: dict[str, Any]) -> dict[str, Any]:
    """Return a description without weights files, as plain data."""
    return without_files(copy.deepcopy(mapping))


def base_of(mapping: dict[str, Any]) -> str | None:
    """Return the stock model that a grafted description stands on, or None where that is not known.

    An expression records it; for a YAML the name tells: ``yolo11n-carafe.yaml`` stands on ``yolo11n.yaml``.
    """
    if not names_grafts(mapping):
        return None
    record = mapping.get(RECORD)
    if isinstance(record, dict):
        return str(record["base"])
    name = Path(str(mapping.get("yaml_file") or "")).name
    words = name.removesuffix(".yaml").removesuffix(".yml").split("-")
    scale = str(mapping.get("scale") or "")
    for count in range(len(words) - 1, 0, -1):
        candidate = "-".join(words[:count])
        found = locate(f"{candidate}.yaml")
        if found is None or found in zoo_yamls().values():
            continue
        if scale and count == 1 and without_scale(candidate) == candidate and not candidate.endswith(scale):
            candidate += scale
        return f"{candidate}.yaml"
    return None
