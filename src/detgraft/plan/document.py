"""Reads a model YAML and remembers on which line everything was written.

Plain data only: nothing is resolved to a class and no tag can construct an object, so reading a hostile file runs no
code. The mapping is what stock Ultralytics would read from the same file; the lines are what error messages need.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from detgraft.errors import Location, PlanError

SECTIONS = ("backbone", "head")
MAX_BYTES = 1_000_000  # the largest stock YAML has 6 kB; a file of this size is not a model description
MAX_NODES = 50_000
MAX_DEPTH = 40

# The same characters that Ultralytics' own reader drops before parsing.
_UNPRINTABLE = re.compile(r"[^\x09\x0A\x0D\x20-\x7E\x85\xA0-\uD7FF\uE000-\uFFFD\U00010000-\U0010ffff]+")


@dataclass(frozen=True)
class Document:
    """One parsed model YAML.

    Args:
        source: The path as shown in messages.
        mapping: The plain content: dicts, lists, str, int, float, bool, None.
        key_lines: 1-based line of every top-level key.
        row_lines: 1-based line of every row, per section.
    """

    source: str
    mapping: dict[str, Any]
    key_lines: Mapping[str, int] = field(default_factory=dict)
    row_lines: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def at(self, key: str | None = None) -> Location:
        """Return the location of a top-level key, or of the file."""
        return Location(self.source, self.key_lines.get(key) if key else None)


def read_document(path: str | Path, source: str | None = None) -> Document:
    """Read a model YAML file.

    Args:
        path: The file.
        source: How to call it in messages; the path itself by default.

    Raises:
        PlanError: The file is missing, unreadable, too large, no YAML, or not a mapping.
    """
    source = source or str(path)
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise PlanError(f"cannot be read: {error.strerror or error}", Location(source)) from error
    if len(raw) > MAX_BYTES:
        raise PlanError(f"has {len(raw)} bytes; a model YAML has at most {MAX_BYTES}", Location(source))
    return parse_document(raw.decode("utf-8", errors="ignore"), source)


def parse_document(text: str, source: str) -> Document:
    """Parse the text of a model YAML.

    Args:
        text: YAML text.
        source: How to call it in messages.

    Raises:
        PlanError: No YAML, nested too deeply, or not a mapping.
    """
    text = _UNPRINTABLE.sub("", text.lstrip("\ufeff"))
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        _check_size(node, source)
        mapping = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise PlanError(f"is not valid YAML: {problem}", Location(source, mark.line + 1 if mark else None)) from error
    except (ValueError, OverflowError, RecursionError, TypeError) as error:
        raise PlanError(f"is not valid YAML: {error}", Location(source)) from error
    finally:
        loader.dispose()
    if not isinstance(mapping, dict):
        found = "nothing" if mapping is None else type(mapping).__name__
        raise PlanError(f"expected a mapping with 'backbone' and 'head', found {found}", Location(source, 1))
    return Document(source, mapping, *_lines(node))


def _check_size(root: yaml.Node | None, source: str) -> None:
    """Refuse aliases that expand without bound and nesting that exhausts the stack, before anything is built."""
    count = 0
    stack: list[tuple[yaml.Node, int]] = [(root, 0)] if root is not None else []
    while stack:
        node, depth = stack.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_NODES:
            what = f"is nested more than {MAX_DEPTH} deep" if depth > MAX_DEPTH else f"has more than {MAX_NODES} values"
            raise PlanError(f"{what}; no model YAML is", Location(source, node.start_mark.line + 1))
        if isinstance(node, yaml.SequenceNode):
            stack.extend((child, depth + 1) for child in node.value)
        elif isinstance(node, yaml.MappingNode):
            stack.extend((child, depth + 1) for pair in node.value for child in pair)


def _lines(root: yaml.Node | None) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    keys: dict[str, int] = {}
    rows: dict[str, tuple[int, ...]] = {}
    if isinstance(root, yaml.MappingNode):
        for key, value in root.value:
            name = str(getattr(key, "value", ""))
            keys[name] = key.start_mark.line + 1
            if name in SECTIONS and isinstance(value, yaml.SequenceNode):
                rows[name] = tuple(row.start_mark.line + 1 for row in value.value)
    return keys, rows
