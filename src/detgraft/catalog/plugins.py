"""Own blocks: Python files named by ``plugins=`` and installed packages with an entry point in ``detgraft.blocks``.

A plug-in file becomes a module of the package ``detgraft.plugins``, named after the file and the hash of its content,
so a checkpoint records both. Opening such a checkpoint without the file gives one error that names it; nothing is ever
installed or looked for elsewhere. A YAML cannot name a plug-in: only the person who runs a command can.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from detgraft.catalog.losses import Loss, losses
from detgraft.catalog.registry import catalogue
from detgraft.catalog.spec import Graft
from detgraft.errors import CatalogError, DetgraftError, Location

PACKAGE = "detgraft.plugins"
GROUP = "detgraft.blocks"
ENVIRONMENT = "DETGRAFT_PLUGINS"
"""Set for child processes (DDP workers, study cells), which must know the same blocks; paths joined by os.pathsep."""


_loaded: list[ModuleType] = []
_watchers: list[Callable[[ModuleType], None]] = []


def watch(callback: Callable[[ModuleType], None]) -> None:
    """Call ``callback`` with every plug-in module, those loaded already and those to come."""
    if callback in _watchers:
        return
    _watchers.append(callback)
    for module in _loaded:
        callback(module)


def _announce(module: ModuleType) -> None:
    if module in _loaded:
        return
    _loaded.append(module)
    for callback in _watchers:
        callback(module)


def load_plugins(files: str | Path | Sequence[str | Path]) -> list[ModuleType]:
    """Load plug-in files; a file that is loaded already is left alone.

    Args:
        files: One path, several, or several in one text with commas between.

    Raises:
        CatalogError: A file that is missing, fails, or registers a name that is taken. Nothing stays registered then.
    """
    if isinstance(files, (str, Path)):
        files = [part.strip() for part in str(files).split(",") if part.strip()]
    return [_load_file(Path(file)) for file in files]


def load_inherited() -> None:
    """Load what the parent process loaded, and what installed packages offer."""
    load_plugins([part for part in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if part])
    for point in entry_points(group=GROUP):
        known = _known()
        try:
            point.load()
        except Exception as error:
            _forget(known)
            where = f"{point.name} = {point.value}"
            raise CatalogError(f"the installed plug-in '{where}' fails: {type(error).__name__}: {error}") from error
        _announce(sys.modules[point.module])


def module_name(path: Path, content: bytes) -> str:
    """Return the module name of a plug-in file: its name and the first digits of its SHA-256."""
    stem = re.sub(r"\W", "_", path.stem)
    return f"{PACKAGE}.{stem}__{hashlib.sha256(content).hexdigest()[:16]}"


def _load_file(path: Path) -> ModuleType:
    where = Location(str(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CatalogError(f"the plug-in file cannot be read: {error.strerror or error}", where) from error
    name = module_name(path, content)
    loaded = sys.modules.get(name)
    if loaded is not None:
        return loaded
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise CatalogError("a plug-in must be a Python file (.py)", where)
    module = importlib.util.module_from_spec(spec)
    known = _known()
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        _forget(known)
        if isinstance(error, DetgraftError):
            raise CatalogError(f"the plug-in cannot be used: {error}", where) from error
        if isinstance(error, SystemExit):
            raise CatalogError(f"the plug-in ends the process (sys.exit({error.code!r:.40}))", where) from error
        if not isinstance(error, Exception):
            raise
        raise CatalogError(f"the plug-in fails: {type(error).__name__}: {error}", where) from error
    inherited = [part for part in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if part]
    os.environ[ENVIRONMENT] = os.pathsep.join(dict.fromkeys([*inherited, str(path.resolve())]))
    _announce(module)
    return module


def _known() -> set[Graft | Loss]:
    return {*catalogue, *losses}


def _forget(known: set[Graft | Loss]) -> None:
    """Take out what a failing plug-in had registered."""
    for entry in list(catalogue):
        if entry not in known:
            catalogue.remove(entry.name)
    for loss in list(losses):
        if loss not in known:
            losses.remove(loss.name)


class _MissingPlugin(importlib.abc.MetaPathFinder):
    """Answers for plug-in modules that are not loaded: an error for people instead of an attempt to install them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(f"{PACKAGE}."):
            return None
        raise missing_plugin(fullname)


def missing_plugin(module: str) -> CatalogError:
    """Return the error for a plug-in module that a checkpoint needs and that is not loaded."""
    stem, _, digest = module.removeprefix(f"{PACKAGE}.").rpartition("__")
    return CatalogError(
        f"this model uses own blocks of the plug-in file '{stem}.py' (SHA-256 begins with {digest}), which is not "
        f"loaded. Load it with plugins={stem}.py on the command line, or detgraft.YOLO(..., plugins='{stem}.py'); "
        "a file with other content is another plug-in"
    )


def expect_plugins() -> None:
    """Get ready for whatever plug-in a checkpoint or a description may name: load inherited ones, answer for others.

    Called when a pickle is about to import one.

    Raises:
        CatalogError: An installed or inherited plug-in fails.
    """
    answer_for_missing()
    catalogue.supplied_by(load_inherited)
    catalogue.complete()


def answer_for_missing() -> None:
    """Install the finder above, once."""
    if not any(isinstance(finder, _MissingPlugin) for finder in sys.meta_path):
        sys.meta_path.append(_MissingPlugin())
