"""Optional packages: one way to ask for them, one error that names the extra."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from detgraft.errors import MissingExtraError


def require(module: str, package: str, extra: str = "study") -> Any:
    """Import an optional module.

    Args:
        module: Name to import.
        package: Name to install.
        extra: The extra of detgraft that brings it.

    Raises:
        MissingExtraError: It is not installed.
    """
    if importlib.util.find_spec(module.split(".")[0]) is None:
        raise MissingExtraError(package, extra)
    return importlib.import_module(module)
