"""Reads YAML into plain values and remembers the line of every key and item.

Only the safe tags are constructed, so a file cannot run code. How much a file may hold is counted while it is read,
with every alias at its full size, so that a few lines which stand for millions of values are refused at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from detgraft.base.files import decode
from detgraft.errors import DetgraftError, Location, nearest

Path_ = tuple[str | int, ...]
_NOT_BUILT = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")  # the keys << and = have a meaning, but no value


@dataclass(frozen=True)
class Kind:
    """What a kind of YAML file is called, and how large it can be.

    Args:
        name: For messages, such as "study file".
        expected: What its top level is, for the message when it is something else.
        invalid: What is said of text that is no YAML.
        most_bytes: Largest size.
        most_values: Most keys and values, an alias counting as what it stands for.
        most_depth: Deepest nesting.
        unique: Refuse a key written twice, of which YAML would silently keep the last.
    """

    name: str
    expected: str = "'key: value' lines"
    invalid: str = "is not valid YAML"
    most_bytes: int = 1_000_000
    most_values: int = 50_000
    most_depth: int = 40
    unique: bool = False


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


def read_bytes(path: str | Path, source: str, error: type[DetgraftError], kind: Kind) -> bytes:
    """Read a file's bytes, unless there are more than its kind can have.

    Raises:
        DetgraftError: Of the class ``error``: it is missing, unreadable or too large.
    """
    try:
        # One byte more than allowed tells a file that is too large from one that is not, also where it has no size.
        with Path(path).open("rb") as file:
            raw = file.read(kind.most_bytes + 1)
    except OSError as raised:
        raise error(f"cannot be read: {raised.strerror or raised}.", Location(source)) from raised
    if len(raw) > kind.most_bytes:
        raise error(f"has more than {kind.most_bytes} bytes; no {kind.name} has.", Location(source))
    return raw


def read_located(path: str | Path, error: type[DetgraftError], kind: Kind) -> Located:
    """Read a YAML file whose top level is a mapping.

    Args:
        path: The file, in UTF-8, UTF-16 or GBK.
        error: Class of the errors.
        kind: What kind of file it is.

    Raises:
        DetgraftError: Of the class ``error``: it is missing, unreadable, too large, no YAML, no mapping, or writes a
            key twice where its kind may not.
    """
    source = str(path)
    return parse_located(decode(read_bytes(path, source, error, kind), source, error)[0], source, error, kind)


def parse_located(text: str, source: str, error: type[DetgraftError], kind: Kind) -> Located:
    """Parse YAML text whose top level is a mapping; see :func:`read_located`."""
    loader: _Loader | None = None
    lines: dict[Path_, int] = {}

    def refuse(message: str, line: int | None) -> DetgraftError:
        return error(message, Location(source, line))

    try:
        loader = _Loader(text, kind, refuse)
        node = loader.get_single_node()
        if node is not None:
            _collect(loader, node, (), lines, refuse, kind)
        values = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as raised:
        mark = getattr(raised, "problem_mark", None)
        problem = getattr(raised, "problem", None) or str(raised).splitlines()[0]
        raise refuse(f"{kind.invalid}: {problem}.", mark.line + 1 if mark else None) from raised
    except (ValueError, OverflowError, RecursionError, TypeError) as raised:
        if isinstance(raised, DetgraftError):
            raise
        raise refuse(f"{kind.invalid}: {raised}.", None) from raised
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(values, dict):
        found = "an empty file with nothing in it" if values is None else f"a {type(values).__name__}"
        raise refuse(f"expected {kind.expected}, found {found}.", 1 if node is None else node.start_mark.line + 1)
    return Located(source, values, lines, error)


class _Loader(yaml.SafeLoader):
    """Counts what is read while it is read; ``size`` and ``height`` of a node include all that is below it."""

    def __init__(self, text: str, kind: Kind, refuse: Callable[[str, int | None], DetgraftError]) -> None:
        super().__init__(text)
        self._kind, self._refuse = kind, refuse
        self._depth = self._count = 0
        self._deepest = 0
        self._finished: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node as PyYAML does; refuse what is too much before it is made."""
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            node = super().compose_node(parent, index)
            if id(node) not in self._finished:
                raise self._refuse("holds an alias (*) of the very value that it stands in, which has no end.", line)
            size, height = self._finished[id(node)]
            self._add(size, self._depth + height, line)
            return node
        line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
        before, outside = self._count, self._deepest
        self._deepest = self._depth
        self._add(1, self._depth, line)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._finished[id(node)] = self._count - before, self._deepest - self._depth
        self._deepest = max(self._deepest, outside)
        return node

    def _add(self, size: int, depth: int, line: int) -> None:
        self._count += size
        self._deepest = max(self._deepest, depth)
        if depth > self._kind.most_depth:
            raise self._refuse(f"is nested more than {self._kind.most_depth} deep; no {self._kind.name} is.", line)
        if self._count > self._kind.most_values:
            most = f"{self._kind.most_values} values, aliases (*) counted in full"
            raise self._refuse(f"stands for more than {most}; no {self._kind.name} does.", line)


def _collect(
    loader: _Loader,
    node: yaml.Node,
    path: Path_,
    lines: dict[Path_, int],
    refuse: Callable[[str, int | None], DetgraftError],
    kind: Kind,
) -> None:
    """Note the line of every key and item under ``node``."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            plain = isinstance(key, yaml.ScalarNode) and key.tag not in _NOT_BUILT
            name = loader.construct_object(key) if plain else key.value
            here = (*path, name if isinstance(name, (str, int)) else str(name))
            line = key.start_mark.line + 1
            if here in lines and kind.unique:
                raise refuse(f"{name!r} is written twice, first in line {lines[here]}.", line)
            lines[here] = line
            _collect(loader, value, here, lines, refuse, kind)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _collect(loader, item, (*path, index), lines, refuse, kind)
