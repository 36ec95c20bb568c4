"""Graft any backbone or block onto any stock Ultralytics detector, see what it costs, prove what it buys.

``import detgraft`` alone makes stock ``ultralytics.YOLO`` understand grafted model YAMLs and open grafted checkpoints.
It imports neither torch nor Ultralytics by itself; both are loaded when a name below is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from detgraft._moved import answer_for_moved
from detgraft._on_import import after_import
from detgraft._version import __version__

if TYPE_CHECKING:
    from detgraft.catalog.listing import list_grafts
    from detgraft.catalog.losses import list_losses, register_loss
    from detgraft.catalog.registry import register
    from detgraft.measure.cost import show
    from detgraft.pretraining.api import pretrain
    from detgraft.upstream.model.build import build
    from detgraft.upstream.model.models import RTDETR, YOLO
    from detgraft.verify.check import check

_PUBLIC = {
    "YOLO": "detgraft.upstream.model.models",
    "RTDETR": "detgraft.upstream.model.models",
    "build": "detgraft.upstream.model.build",
    "check": "detgraft.verify.check",
    "show": "detgraft.measure.cost",
    "pretrain": "detgraft.pretraining.api",
    "list_grafts": "detgraft.catalog.listing",
    "register": "detgraft.catalog.registry",
    "list_losses": "detgraft.catalog.losses",
    "register_loss": "detgraft.catalog.losses",
}

__all__ = [
    "RTDETR",
    "YOLO",
    "__version__",
    "build",
    "check",
    "list_grafts",
    "list_losses",
    "pretrain",
    "register",
    "register_loss",
    "show",
]


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


def _call(*named: tuple[str, str]) -> None:
    for module, function in named:
        getattr(importlib.import_module(f"detgraft.{module}"), function)()


# What is imported then is light, too, and needs nothing of Ultralytics but the module that is complete: one of our own
# modules may be what imports Ultralytics, half imported itself.
after_import(
    "ultralytics.nn.tasks", lambda: _call(("upstream.hooks.tasks", "install"), ("upstream.hooks.losses", "install"))
)
after_import("ultralytics.engine.model", lambda: _call(("upstream.hooks.engine", "install")))
after_import("ultralytics.engine.trainer", lambda: _call(("upstream.hooks.losses", "install_trainer")))
after_import("ultralytics.models.utils.loss", lambda: _call(("upstream.hooks.losses", "install_rtdetr")))
after_import("ultralytics.models.utils.ops", lambda: _call(("upstream.hooks.losses", "install_matcher")))
# Asked for by a pickle that holds an own block.
after_import("detgraft.plugins", lambda: _call(("catalog.plugins", "expect_plugins")))
answer_for_moved()
