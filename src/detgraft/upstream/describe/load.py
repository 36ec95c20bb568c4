"""Loads a model description by name: a path, a stock YAML, a YAML of the zoo."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ultralytics.nn import tasks

from detgraft.catalog.registry import catalogue
from detgraft.errors import Location, PlanError
from detgraft.plan.document import Document, read_document, respelled
from detgraft.plan.keys import check_keys, with_channels
from detgraft.upstream.describe.meant import meant
from detgraft.upstream.describe.resolve import locate
from detgraft.upstream.release.capabilities import stock_module, stock_yamls


def load_yaml(name: str, original: Callable[[str], dict[str, Any]] | None = None) -> dict[str, Any]:
    """Load a model description as Ultralytics passes it around.

    Args:
        name: A model YAML's path or name.
        original: The real ``yaml_model_load``; the one in force by default.

    Returns:
        The plain mapping with ``scale`` and ``yaml_file``.

    Raises:
        PlanError: No such file, or not a model description.
    """
    original = original or getattr(tasks.yaml_model_load, "__detgraft_original__", tasks.yaml_model_load)
    found = locate(name)
    if found is None:
        try:
            return original(name)  # it knows further spellings (yolov8n6, remote names)
        except OSError as error:
            siblings = [p.name for p in Path(name).parent.glob("*.y*ml")] if Path(name).parent.is_dir() else []
            raise PlanError(f"there is no such model file.{meant(name, tuple(siblings))}", Location(name)) from error
    document = read_once(found, name)
    if found in stock_yamls().values():
        return original(name)
    # The same content as the real reader's, which takes a digit and a letter in a folder's name (exp11s) for a scale.
    _say_once(str(found), name, *_state(found))
    return {**copy.deepcopy(with_channels(document)), "scale": tasks.guess_model_scale(name), "yaml_file": name}


def read_once(path: Path, source: str) -> Document:
    """Read a model YAML, or return what was read of it before; the result is shared and must not be changed.

    One build asks several times, and parsing a YAML takes a quarter of it.

    Args:
        path: The file.
        source: How to call it in messages.

    Raises:
        PlanError: See `read_document`.
        OSError: The file is missing.
    """
    return _read(str(path), source, *_state(path), catalogue.revision)[0]


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_size


@functools.lru_cache(maxsize=64)
def _say_once(path: str, source: str, modified: int, size: int) -> None:
    """Check the keys of a file that is not Ultralytics' own, and log what has no effect once per state of the file."""
    document, notes = _read(path, source, modified, size, catalogue.revision)
    for note in [*check_keys(document), *notes]:
        tasks.LOGGER.warning(note)


@functools.lru_cache(maxsize=64)
def _read(path: str, source: str, _modified: int, _size: int, _revision: int) -> tuple[Document, list[str]]:
    return respelled(read_document(path, source), lambda name: stock_module(name) is not None or name in catalogue)
