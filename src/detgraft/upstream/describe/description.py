"""A model's description as one value: made once, handed on to whoever builds, prices or checks the model."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detgraft.catalog.registry import catalogue
from detgraft.errors import PlanError
from detgraft.plan.document import Document
from detgraft.plan.rows import Plan, document_of, make_plan
from detgraft.upstream.describe.load import read_once
from detgraft.upstream.describe.resolve import locate
from detgraft.upstream.parser.names import meaning

_ADDED = ("channels", "ch")
"""What Ultralytics adds to a description on its way; no plan depends on it."""


@dataclass(frozen=True, eq=False)
class Description:
    """A model description, read or composed.

    Args:
        text: The name under which Ultralytics knows it: a file, or an expression with ``.yaml`` at its end.
        document: The mapping as Ultralytics passes it around, with the lines of its rows. Never changed: whoever wants
            to change it takes a copy.
        base: The base model's YAML, where it was composed from an expression.
        path: The file that it was read from, where there is one.
        revision: The catalogue's when it was described: a block that is registered anew gives its rows another meaning.
    """

    text: str
    document: Document
    base: str | None = None
    path: Path | None = None
    revision: int = field(default_factory=lambda: catalogue.revision)

    @classmethod
    def of(cls, mapping: dict[str, Any], text: str | None = None, base: str | None = None) -> Description:
        """Describe a mapping as Ultralytics passes it around, with the lines of the file behind it if they still fit.

        Args:
            mapping: A model description; copied.
            text: See the class; the mapping's own ``yaml_file`` by default.
            base: See the class.
        """
        source = str(mapping.get("yaml_file") or "model description")
        path, lines = locate(source), None
        if path is not None:
            with contextlib.suppress(PlanError, OSError):  # the file may have changed since; its lines are a courtesy
                lines = read_once(path, source)
        made = cls(source if text is None else text, document_of(copy.deepcopy(mapping), source, lines), base, path)
        _latest.set(made)
        return made

    @property
    def mapping(self) -> dict[str, Any]:
        """The mapping as Ultralytics passes it around; not to be changed."""
        return self.document.mapping

    @functools.cached_property
    def plan(self) -> Plan:
        """The plan, made when it is first asked for.

        Raises:
            PlanError: The description is malformed, or names a module that does not exist.
        """
        return make_plan(self.document, meaning)

    @functools.cached_property
    def _content(self) -> str:
        return _content_of(self.mapping)

    def fits(self, mapping: dict[str, Any]) -> bool:
        """Say whether a mapping is this description, on its way through Ultralytics."""
        return self.revision == catalogue.revision and self._content == _content_of(mapping)

    def copied(self) -> dict[str, Any]:
        """Return the mapping for someone who may change it."""
        return copy.deepcopy(self.mapping)


def _content_of(mapping: dict[str, Any]) -> str:
    # As text, since 1 and True are equal.
    return repr(sorted((str(key), repr(value)) for key, value in mapping.items() if key not in _ADDED))


_latest: ContextVar[Description | None] = ContextVar("detgraft_latest_description", default=None)
_handed: ContextVar[Description | None] = ContextVar("detgraft_handed_description", default=None)


def description_of(mapping: dict[str, Any]) -> Description:
    """Return the description that a mapping is, as Ultralytics hands it back, or make one.

    Args:
        mapping: A model description.
    """
    known = _latest.get()
    return known if known is not None and known.fits(mapping) else Description.of(mapping)


@contextlib.contextmanager
def handed_on(description: Description | None) -> Iterator[None]:
    """Have Ultralytics' reader of descriptions answer with this one when it is asked for its name inside."""
    token = _handed.set(description)
    try:
        yield
    finally:
        _handed.reset(token)


def handed(text: str) -> Description | None:
    """Return the description that is being handed on under a name, or None."""
    known = _handed.get()
    if known is None or known.text != text:
        return None
    _latest.set(known)
    return known
