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

from detgraft.errors import Location, nearest
from detgraft.study.errors import StudyError

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
    """

    source: str
    values: dict[str, Any]
    lines: dict[Path_, int] = field(default_factory=dict)

    def at(self, *path: str | int) -> Location:
        """Location of the value at ``path``, or of the nearest thing around it whose line is known."""
        while path and path not in self.lines:
            path = path[:-1]
        return Location(self.source, self.lines.get(path))

    def fail(self, message: str, *path: str | int) -> StudyError:
        """An error that names the line of ``path``; to be raised by the caller."""
        return StudyError(message, self.at(*path))

    def check_keys(self, found: Iterable[Any], known: Iterable[str], what: str, *path: str | int) -> None:
        """Refuse keys that are not known.

        Raises:
            StudyError: With the line of the key and the nearest valid name.
        """
        names = list(known)
        for key in found:
            if key not in names:
                raise self.fail(
                    f"unknown {what} {key!r}; known are {', '.join(names)}.{nearest(str(key), names)}", *path, key
                )


def read_located(path: str | Path) -> Located:
    """Read a YAML file whose top level is a mapping.

    Args:
        path: The file.

    Raises:
        StudyError: It is missing, unreadable, too large, no YAML, no mapping, or writes a key twice.
    """
    source = str(path)
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise StudyError(f"cannot be read: {error.strerror or error}.", Location(source)) from error
    if len(raw) > _MAX_BYTES:
        raise StudyError(f"has {len(raw)} bytes; a study file has at most {_MAX_BYTES}.", Location(source))
    return parse_located(raw.decode("utf-8-sig", errors="replace"), source)


def parse_located(text: str, source: str) -> Located:
    """Parse YAML text whose top level is a mapping; see :func:`read_located`."""
    loader: yaml.SafeLoader | None = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        lines: dict[Path_, int] = {}
        _collect(node, (), lines, source)
        values = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise StudyError(f"is not valid YAML: {problem}.", Location(source, mark.line + 1 if mark else None)) from error
    except (ValueError, OverflowError, RecursionError, TypeError) as error:
        if isinstance(error, StudyError):
            raise
        raise StudyError(f"is not valid YAML: {error}.", Location(source)) from error
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(values, dict):
        found = "nothing" if values is None else type(values).__name__
        raise StudyError(f"expected 'key: value' lines, found {found}.", Location(source, 1))
    return Located(source, values, lines)


def _collect(node: yaml.Node | None, path: Path_, lines: dict[Path_, int], source: str) -> None:
    """Note the line of every key and item under ``node``."""
    if len(path) > _MAX_DEPTH:
        raise StudyError(
            f"is nested more than {_MAX_DEPTH} deep; no study file is.", Location(source, lines[path[:-1]])
        )
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = yaml.safe_load(key.value) if isinstance(key, yaml.ScalarNode) and not key.style else key.value
            here = (*path, name if isinstance(name, (str, int)) else str(name))
            line = key.start_mark.line + 1
            if here in lines:
                raise StudyError(f"{name!r} is written twice, first in line {lines[here]}.", Location(source, line))
            lines[here] = line
            _collect(value, here, lines, source)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _collect(item, (*path, index), lines, source)
