"""Graft any backbone or block onto any stock Ultralytics detector, see what it costs, prove what it buys.

``import detgraft`` alone makes stock ``ultralytics.YOLO`` understand grafted model YAMLs and open grafted checkpoints.
It imports neither torch nor Ultralytics by itself; both are loaded when a name below is first used.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from detgraft._moved import answer_for_moved
from detgraft._on_import import after_import
from detgraft._version import __version__

if TYPE_CHECKING:
    from detgraft.catalog.registry import list_grafts, register
    from detgraft.measure.cost import show
    from detgraft.pretraining.api import pretrain
    from detgraft.upstream.model.models import RTDETR, YOLO, build
    from detgraft.verify.check import check

_PUBLIC = {
    "YOLO": "detgraft.upstream.model.models",
    "RTDETR": "detgraft.upstream.model.models",
    "build": "detgraft.upstream.model.models",
    "check": "detgraft.verify.check",
    "show": "detgraft.measure.cost",
    "pretrain": "detgraft.pretraining.api",
    "list_grafts": "detgraft.catalog.registry",
    "register": "detgraft.catalog.registry",
}

__all__ = ["RTDETR", "YOLO", "__version__", "build", "check", "list_grafts", "pretrain", "register", "show"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'detgraft' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *_PUBLIC})


def _install_hooks(step: str) -> None:
    # When one of our own modules is what imports Ultralytics, it is not complete yet; it installs the hooks at its end.
    ours = {name: module for name, module in sys.modules.items() if name.startswith("detgraft.upstream.")}
    hooks = ours.get("detgraft.upstream.hooks.tasks")
    if not any(getattr(m.__spec__, "_initializing", False) for m in ([hooks] if hooks else ours.values())):
        hooks = importlib.import_module("detgraft.upstream.hooks.tasks")
        hooks.install()
        getattr(hooks, step)()


# Two steps, since `from ultralytics import YOLO` completes the first module while the second one is half imported.
after_import("ultralytics.nn.tasks", lambda: _install_hooks("install"))
after_import("ultralytics.engine.model", lambda: _install_hooks("install_in_engine"))
answer_for_moved()
