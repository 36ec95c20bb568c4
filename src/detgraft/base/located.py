"""Reads YAML into plain values and remembers the line of every key and item.

Only the safe tags are constructed, so a study file cannot run code; a key written twice is an error, because YAML
would silently keep the last one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from detgraft.errors import DetgraftError, Location, nearest

Path_ = tuple[str | int, ...]
_MAX_BYTES = 1_000_000
_MAX_DEPTH = 20


@dataclass(frozen=True)
class Located:
    """A YAML mapping with the line of everything in it.

    Args:
        source: How the file is called in messages.
        values: The plain content.
        lines: 1-based line by path, a path being the keys and list positions that lead to the value.
        error: Class of what :meth:`fail` returns.
    """

    source: str
    values: dict[str, Any]
    lines: dict[Path_, int] = field(default_factory=dict)
    error: type[DetgraftError] = DetgraftError

    def at(self, *path: str | int) -> Location:
        """Location of the value at ``path``, or of the nearest thing around it whose line is known."""
        while path and path not in self.lines:
            path = path[:-1]
        return Location(self.source, self.lines.get(path))

    def fail(self, message: str, *path: str | int) -> DetgraftError:
        """An error that names the line of ``path``; to be raised by the caller."""
        return self.error(message, self.at(*path))

    def check_keys(self, found: Iterable[Any], known: Iterable[str], what: str, *path: str | int) -> None:
        """Refuse keys that are not known.

        Raises:
            DetgraftError: With the line of the key and the nearest valid name.
        """
        names = list(known)
        for key in found:
            if key not in names:
                raise self.fail(
                    f"unknown {what} {key!r}; known are {', '.join(names)}.{nearest(str(key), names)}", *path, key
                )


def read_located(path: str | Path, error: type[DetgraftError]) -> Located:
    """Read a YAML file whose top level is a mapping.

    Args:
        path: The file.
        error: Class of the errors.

    Raises:
        DetgraftError: Of the class ``error``: it is missing, unreadable, too large, no YAML, no mapping, or writes a
            key twice.
    """
    source = str(path)
    try:
        raw = Path(path).read_bytes()
    except OSError as raised:
        raise error(f"cannot be read: {raised.strerror or raised}.", Location(source)) from raised
    if len(raw) > _MAX_BYTES:
        raise error(f"has {len(raw)} bytes; a study file has at most {_MAX_BYTES}.", Location(source))
    return parse_located(raw.decode("utf-8-sig", errors="replace"), source, error)


def parse_located(text: str, source: str, error: type[DetgraftError]) -> Located:
    """Parse YAML text whose top level is a mapping; see :func:`read_located`."""
    loader: yaml.SafeLoader | None = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        lines: dict[Path_, int] = {}
        _collect(node, (), lines, source, error)
        values = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as raised:
        mark = getattr(raised, "problem_mark", None)
        problem = getattr(raised, "problem", None) or str(raised).splitlines()[0]
        raise error(f"is not valid YAML: {problem}.", Location(source, mark.line + 1 if mark else None)) from raised
    except (ValueError, OverflowError, RecursionError, TypeError) as raised:
        if isinstance(raised, DetgraftError):
            raise
        raise error(f"is not valid YAML: {raised}.", Location(source)) from raised
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(values, dict):
        found = "nothing" if values is None else type(values).__name__
        raise error(f"expected 'key: value' lines, found {found}.", Location(source, 1))
    return Located(source, values, lines, error)


def _collect(
    node: yaml.Node | None, path: Path_, lines: dict[Path_, int], source: str, error: type[DetgraftError]
) -> None:
    """Note the line of every key and item under ``node``."""
    if len(path) > _MAX_DEPTH:
        raise error(f"is nested more than {_MAX_DEPTH} deep; no study file is.", Location(source, lines[path[:-1]]))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = yaml.safe_load(key.value) if isinstance(key, yaml.ScalarNode) and not key.style else key.value
            here = (*path, name if isinstance(name, (str, int)) else str(name))
            line = key.start_mark.line + 1
            if here in lines:
                raise error(f"{name!r} is written twice, first in line {lines[here]}.", Location(source, line))
            lines[here] = line
            _collect(value, here, lines, source, error)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _collect(item, (*path, index), lines, source, error)
