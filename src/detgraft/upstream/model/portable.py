"""What makes a grafted checkpoint open anywhere: no class outside the allow-list, and a name for an absent plug-in."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

import detgraft.blocks
from detgraft._moved import CHECKPOINT_MODULES
from detgraft.catalog.plugins import PACKAGE, missing_plugin
from detgraft.errors import CatalogError

NAMED_GLOBALS = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6)


def allow_safe_loading() -> None:
    """Allow the classes of ``detgraft.blocks`` in restricted loading (``ULTRALYTICS_SAFE_LOAD=1``)."""
    for info in pkgutil.walk_packages(detgraft.blocks.__path__, "detgraft.blocks."):
        allow_module(importlib.import_module(info.name))


def allow_module(module: ModuleType) -> None:
    """Allow the layers that a module defines in restricted loading: detgraft's own, or a plug-in's that was loaded."""
    if not hasattr(torch.serialization, "add_safe_globals"):
        return
    classes = [value for _, value in inspect.getmembers(module, inspect.isclass)]
    own: list[Any] = [c for c in classes if issubclass(c, nn.Module) and c.__module__ == module.__name__]
    former = [old for old, new in CHECKPOINT_MODULES.items() if new == module.__name__]
    # Under a former name a class is allowed as a pair, which PyTorch takes since 2.6.
    pairs = [(c, f"{old}.{c.__name__}") for old in former for c in own] if NAMED_GLOBALS else []
    torch.serialization.add_safe_globals([*own, *pairs])


def missing_plugin_of(path: object) -> CatalogError | None:
    """Say which plug-in file a checkpoint needs that is not loaded, or None; restricted loading hides it otherwise.

    Args:
        path: A checkpoint that could not be opened.
    """
    needed = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
    if needed is None or not isinstance(path, (str, Path)) or not Path(path).is_file():
        return None
    try:
        modules = sorted({str(name).rpartition(".")[0] for name in needed(str(path))})
    except Exception:  # no readable checkpoint: whatever the loader has said about it holds
        return None
    absent = [name for name in modules if name.startswith(f"{PACKAGE}.") and name not in sys.modules]
    return missing_plugin(absent[0]) if absent else None
