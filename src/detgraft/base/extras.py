"""Optional packages: one list of them, one way to ask for them, one error that names the extra."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from detgraft.errors import MissingExtraError

OPTIONAL = {
    "faster_coco_eval": ("faster-coco-eval", "study"),
    "plotly": ("plotly", "study"),
    "openpyxl": ("openpyxl", "thesis"),
    "ray": ("ray", "ray"),
    "mlflow": ("mlflow-skinny", "mlflow"),
    "tensorboard": ("tensorboard", "tensorboard"),
    "lightning_fabric": ("lightning-fabric", "pretrain"),
    "onnx": ("onnx", "export"),
    "onnxruntime": ("onnxruntime", "export"),
    "onnxslim": ("onnxslim", "export"),
    "pytest": ("pytest", "dev"),
}
"""Module to import, the package that brings it, and the extra of detgraft that brings the package."""


def has(module: str) -> bool:
    """Whether a module is installed; it is not imported."""
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except ValueError:  # hidden on purpose, in sys.modules
        return False


def require(module: str) -> Any:
    """Import an optional module.

    Args:
        module: Name to import; its first part is listed in :data:`OPTIONAL`.

    Raises:
        MissingExtraError: It is not installed; names the package and how to install it.
    """
    if not has(module):
        raise missing(module)
    return importlib.import_module(module)


def missing(module: str, extra: str | None = None) -> MissingExtraError:
    """Return the error for a module that cannot be imported; to be raised by the caller.

    Args:
        module: As in :func:`require`.
        extra: The extra to name where several bring the package.
    """
    package, usual = OPTIONAL[module.partition(".")[0]]
    return MissingExtraError(package, extra or usual, _checkout())


def _checkout() -> str:
    """Folder of the source tree that this package is imported from, empty for an installed one."""
    folder = Path(__file__).resolve().parents[3]
    return str(folder) if (folder / "pyproject.toml").is_file() else ""
