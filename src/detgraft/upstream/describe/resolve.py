"""Finds the file behind a model name: a path, a stock YAML, or one of the zoo; with or without scale letter."""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Mapping
from pathlib import Path

from detgraft.upstream.release.capabilities import stock_yamls

ZOO = Path(__file__).resolve().parents[2] / "zoo"

# Only the file's own name carries a scale letter; a folder such as exp11s must not be taken for one.
_SCALE = re.compile(r"(\d+)[nslmx](?=[.\-_+]|$)")


def without_scale(name: str) -> str:
    """Return a model file's name without its scale letter: yolo11n-carafe.yaml becomes yolo11-carafe.yaml."""
    return _SCALE.sub(r"\1", name, count=1)


@functools.lru_cache(maxsize=1)
def zoo_yamls() -> Mapping[str, Path]:
    """Return the ready YAMLs of the zoo by file name."""
    return types.MappingProxyType({path.name: path for path in sorted(ZOO.glob("*.yaml"))})


def locate(name: str | Path) -> Path | None:
    """Return the file that a model YAML's name stands for, or None.

    Looked at in this order: the path as given, the path without scale letter, stock YAMLs, the zoo.
    """
    path = Path(name)
    for candidate in (path, path.with_name(without_scale(path.name)) if path.name else path):
        if candidate.suffix in (".yaml", ".yml") and candidate.is_file():
            return candidate
    if path.name != str(name):
        return None
    for known in (stock_yamls(), zoo_yamls()):
        for wanted in (path.name, without_scale(path.name)):
            if wanted in known:
                return known[wanted]
    return None


def known_models() -> list[str]:
    """Return every model YAML name that can be used without a path, for error messages."""
    return [*zoo_yamls(), *stock_yamls()]
