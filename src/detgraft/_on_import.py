"""Runs a function right after a module is imported, without importing it now.

``import detgraft`` must make stock ``ultralytics.YOLO`` understand grafts and still cost nothing when only the command
line's help is wanted. So the hooks are installed when Ultralytics is imported, by whomever, and again when somebody
reloads it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType


class _AfterExec(importlib.abc.Loader):
    """Loads a module with its own loader, then calls back."""

    def __init__(self, loader: importlib.abc.Loader, callback: Callable[[], None]) -> None:
        self._loader = loader
        self._callback = callback

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module keeps its own loader, so that whatever looks at it later (inspect, pickle) sees nothing unusual.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._callback()


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the watched modules as the other finders do, with a loader that calls back."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Callable[[], None]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        callback = self.callbacks.get(fullname)
        if callback is None:
            return None
        for finder in sys.meta_path:
            spec = None if isinstance(finder, _Finder) else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _AfterExec(spec.loader, callback)
                return spec
        return None


_finder = _Finder()


def after_import(name: str, callback: Callable[[], None]) -> None:
    """Call ``callback`` whenever the module ``name`` has been imported or reloaded; now, if it is imported already.

    Args:
        name: Full module name.
        callback: Called without arguments; what it raises fails the import, so that the next one calls again.
    """
    _finder.callbacks[name] = callback
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    if name in sys.modules:
        callback()
