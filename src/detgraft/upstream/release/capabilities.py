"""What the installed Ultralytics can do, found by looking, with a name for each fact."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import ultralytics
from torch import nn
from ultralytics.nn import modules, tasks

ULTRALYTICS_VERSION: str = ultralytics.__version__
TRIED = ("8.3.0", "8.3.100", "8.4.0", "8.4.190")
"""The releases that ``scripts/compat.sh`` tried, see docs/compatibility.md."""

MODELS_FOLDER = Path(ultralytics.__file__).parent / "cfg" / "models"


def _source(name: str) -> str:
    """Read the source of something in ``ultralytics.nn.tasks``; empty where it is not there or cannot be read."""
    try:
        return inspect.getsource(getattr(tasks, name))
    except (AttributeError, OSError, TypeError):
        return ""


HAS_SAFE_LOAD = hasattr(tasks, "_SafeLoad") and hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint")
HAS_END2END = "end2end" in _source("parse_model")
HAS_LEGACY_HEAD = "legacy" in _source("parse_model")
HAS_A2C2F = hasattr(modules, "A2C2f")
HAS_YOLO12 = any(MODELS_FOLDER.glob("12/yolo12.yaml"))
HAS_YOLO26 = any(MODELS_FOLDER.glob("26/yolo26.yaml"))
# Older releases stop the stride forward of a build from moving batch-norm counters; 8.3.0 does not.
BUILD_KEEPS_BATCH_NORM = "self.model.eval()" in _source("DetectionModel")


def onnx_export_misses() -> str:
    """Return the package that this release's ONNX export wants besides ``onnx`` and that is not there, or nothing.

    torch 2.9 made another exporter its default, with packages of its own; releases from before never choose.
    """
    default = inspect.signature(torch.onnx.export).parameters.get("dynamo")
    if default is None or default.default is not True:
        return ""
    folder = Path(ultralytics.__file__).parent
    files = [folder / "engine" / "exporter.py", folder / "utils" / "export.py", *folder.glob("utils/export/*.py")]
    if any("dynamo" in file.read_text("utf-8") for file in files if file.is_file()):
        return ""
    return "" if importlib.util.find_spec("onnxscript") else "onnxscript"


def stock_module(name: str) -> type[nn.Module] | None:
    """Return the class that the stock parser finds under a module name, or None.

    Args:
        name: As written in a YAML row: ``Conv``, ``nn.Upsample``, ``torchvision.ops.Permute``.
    """
    found: Any = None
    if name.startswith("torchvision.ops."):
        import torchvision

        found = getattr(torchvision.ops, name.removeprefix("torchvision.ops."), None)
    elif name.startswith("nn."):
        found = getattr(nn, name[3:], None)
    else:
        found = vars(tasks).get(name)
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def stock_names() -> list[str]:
    """Return the module names that a stock YAML row can use without a prefix."""
    return sorted(n for n, v in vars(tasks).items() if isinstance(v, type) and issubclass(v, nn.Module))


@functools.lru_cache(maxsize=1)
def stock_yamls() -> Mapping[str, Path]:
    """Return the stock model YAMLs by file name; an installed release does not change, so it is looked through once."""
    return types.MappingProxyType({path.name: path for path in sorted(MODELS_FOLDER.rglob("*.yaml"))})
