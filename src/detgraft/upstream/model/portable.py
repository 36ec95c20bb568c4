"""What makes a grafted checkpoint open anywhere: no class outside the allow-list, and a name for an absent plug-in."""

from __future__ import annotations

import importlib
import inspect
import mmap
import pkgutil
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

import detgraft.blocks
from detgraft._moved import CHECKPOINT_MODULES
from detgraft.catalog.plugins import PACKAGE, missing_plugin
from detgraft.catalog.registry import catalogue
from detgraft.errors import CatalogError

NAMED_GLOBALS = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6)

_BLOCKS = "detgraft.blocks"
_NAMED = b"detgraft"
"""Stands in every pickle of a grafted model: in the names of the grafts' modules, and in the model's mark."""


def allow_named(path: object) -> None:
    """Get ready for the grafts that a checkpoint names: load plug-ins, allow its classes in restricted loading.

    The file is looked at, nothing in it is executed. Of a checkpoint without grafts nothing is imported.

    Args:
        path: A checkpoint as it is given to Ultralytics' loader.

    Raises:
        CatalogError: An installed or inherited plug-in fails.
    """
    file = _local(path)
    if file is None or not _names_grafts(file):
        return
    catalogue.complete()
    own = {info.name for info in pkgutil.walk_packages(detgraft.blocks.__path__, f"{_BLOCKS}.")}
    named = {CHECKPOINT_MODULES.get(name, name) for name in _modules_in(file)}
    for name in sorted(own & named):
        allow_module(importlib.import_module(name))


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
    file = _local(path)
    if file is None:
        return None
    absent = sorted(name for name in _modules_in(file) if name.startswith(f"{PACKAGE}.") and name not in sys.modules)
    return missing_plugin(absent[0]) if absent else None


def _local(path: object) -> Path | None:
    """Return the file that Ultralytics' loader takes, None where it would download one."""
    from ultralytics.utils import SETTINGS

    if not isinstance(path, (str, Path)):
        return None
    name = str(path).strip().replace("'", "")  # as Ultralytics reads it
    return next((file for file in (Path(name), Path(SETTINGS["weights_dir"]) / name) if file.is_file()), None)


def _names_grafts(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            return any(_NAMED in archive.read(name) for name in pickles)
    except (zipfile.BadZipFile, OSError, ValueError):  # torch's form before 1.6, or nothing that can be opened
        pass
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(_NAMED) >= 0
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


def _modules_in(file: Path) -> set[str]:
    """Return the modules that a checkpoint's pickle names and that restricted loading does not know yet."""
    needed = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
    if needed is None:
        return set()
    try:
        return {str(name).rpartition(".")[0] for name in needed(str(file))}
    except Exception:  # no readable checkpoint: whatever the loader says about it holds
        return set()
