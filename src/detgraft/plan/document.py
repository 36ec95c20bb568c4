"""Reads a model YAML and remembers on which line everything was written.

Plain data only: nothing is resolved to a class and no tag can construct an object, so reading a hostile file runs no
code. The mapping is what stock Ultralytics would read from the same file; the lines are what error messages need.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from detgraft.base.located import Kind, parse_located, read_bytes
from detgraft.catalog.public import ours
from detgraft.errors import Location, PlanError

SECTIONS = ("backbone", "head")
# The largest stock YAML has 6 kB and some 800 values.
KIND = Kind("model YAML", "a mapping with 'backbone' and 'head'")

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
    return parse_document(read_bytes(path, source, PlanError, KIND).decode("utf-8", errors="ignore"), source)


def respelled(document: Document, is_known: Callable[[str], bool]) -> tuple[Document, list[str]]:
    """Give rows of public YAMLs our names, where theirs mean the same, see `detgraft.catalog.public`.

    Args:
        document: What a file holds.
        is_known: Says of a name that it has a meaning as it is; that one holds.

    Returns:
        The document, and a sentence for every name that was read as another.
    """
    notes: dict[str, str] = {}
    sections = {}
    for section in SECTIONS:
        rows = document.mapping.get(section)
        if not isinstance(rows, list):
            continue
        sections[section] = [_respelled(row, is_known) for row in rows]
        for old, new, line in zip(rows, sections[section], document.row_lines.get(section, ()), strict=False):
            if new is not old:
                where = Location(document.source, line)
                notes.setdefault(old[2], f"{where}: '{old[2]}' is read as '{new[2]}', which means the same")
    if not notes:
        return document, []
    return replace(document, mapping={**document.mapping, **sections}), list(notes.values())


def _respelled(row: Any, is_known: Callable[[str], bool]) -> Any:
    if not isinstance(row, list) or len(row) != 4 or not isinstance(row[2], str) or not isinstance(row[3], list):
        return row
    name = ours(row[0], row[2], row[3])
    return row if name == row[2] or is_known(row[2]) else [*row[:2], name, row[3]]


def parse_document(text: str, source: str) -> Document:
    """Parse the text of a model YAML.

    Args:
        text: YAML text.
        source: How to call it in messages.

    Raises:
        PlanError: No YAML, nested too deeply, or not a mapping.
    """
    found = parse_located(_UNPRINTABLE.sub("", text.lstrip("\ufeff")), source, PlanError, KIND)
    keys = {str(where[0]): line for where, line in found.lines.items() if len(where) == 1}
    rows = {
        name: tuple(found.lines[name, number] for number in range(len(found.values[name])))
        for name in SECTIONS
        if isinstance(found.values.get(name), list)
    }
    return Document(source, found.values, keys, rows)
