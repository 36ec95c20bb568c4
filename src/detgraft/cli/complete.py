"""What the shell proposes: grafts, stock models and keys. It must answer at once, so Ultralytics is not imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from detgraft.catalog.registry import catalogue
from detgraft.cli.keys import KEYS

_ZOO = Path(__file__).resolve().parents[1] / "zoo"
_SCALES = "nslmx"


def complete_word(ctx: Any, incomplete: str) -> list[str]:
    """Propose keys of the command, and models behind ``model=``."""
    key, equals, value = incomplete.partition("=")
    if equals:
        return [f"{key}={name}" for name in complete_model(value)] if key in ("model", "base", "graft") else []
    return [f"{name}=" for name in KEYS.get(str(ctx.info_name), {}) if name.startswith(key)]


def complete_model(incomplete: str) -> list[str]:
    """Propose stock models, and grafts behind a ``+``."""
    base, plus, last = incomplete.rpartition("+")
    if plus:
        return [f"{base}+{name}" for name in complete_graft(last)]
    return [name for name in stock_names() if name.startswith(incomplete)]


def complete_graft(incomplete: str) -> list[str]:
    """Propose grafts."""
    return sorted({entry.name for entry in catalogue if entry.name.lower().startswith(incomplete.lower())})


def stock_names() -> list[str]:
    """The models that need no file, each with its scales; found beside the package, without importing it."""
    found = {path.stem for path in _ZOO.glob("*.yaml")}
    spec = importlib.util.find_spec("ultralytics")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        for path in Path(place, "cfg", "models").rglob("*.yaml"):
            head, dash, tail = path.stem.partition("-")
            scaled = head[-1:].isdigit() and head.startswith("yolo")
            found |= {f"{head}{scale}{dash}{tail}" for scale in _SCALES} if scaled else {path.stem}
    return sorted(found)
