"""The grammar of graft expressions.

::

    expression := BASE ("+" graft)*
    graft      := NAME ["@" site] ["(" [(inner | pair) ("," pair)*] ")"]
    inner      := NAME ["(" [(inner | pair) ("," pair)*] ")"]
    site       := ("backbone" | "head") ["." NUMBER]
    pair       := KEY "=" (value | "(" value ("," value)* ")")
    value      := NUMBER | "True" | "False" | "None" | quoted text | bare text

BASE is a model YAML's name without its ending, or a path to one. NAME may contain one "/" (``timm/resnet18``). What
begins the parentheses without a "=" is another graft, which goes inside the first: ``c3k2(faster)``,
``c3k2(pinwheelconv(k=5),at=cv1)``. It has no site of its own. Values are plain data and never evaluated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detgraft.base.values import read_scalar
from detgraft.catalog.spec import NAME
from detgraft.errors import Location, PlanError, nearest
from detgraft.plan.document import SECTIONS

MAX_LENGTH = 2000
MAX_GRAFTS = 50
MAX_DEPTH = 4
"""How many grafts can stand inside each other, the outermost included."""

_KEY = re.compile(r"[A-Za-z_]\w*")
_SITE = re.compile(r"([A-Za-z_]+)(?:\.(\d{1,4}))?")
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_BARE = re.compile(r"[^,()'\"]+")
_YAML = (".yaml", ".yml")
_FILES = (".pt", ".pth", ".onnx", ".safetensors", ".torchscript", ".engine")  # checkpoints and exported models


@dataclass(frozen=True)
class GraftTerm:
    """One graft of an expression.

    Args:
        name: Graft name as written.
        section: ``backbone`` or ``head`` when the site is narrowed, else None.
        number: Row of that section, counted from 0, or None.
        keywords: Arguments.
        inner: The graft that goes inside this one, or None; it has no site.
    """

    name: str
    section: str | None = None
    number: int | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)
    inner: GraftTerm | None = None

    def __str__(self) -> str:
        site = f"@{self.section}" + (f".{self.number}" if self.number is not None else "") if self.section else ""
        inner = [] if self.inner is None else [str(self.inner)]
        arguments = ",".join([*inner, *(f"{key}={_written(value)}" for key, value in self.keywords.items())])
        return f"{self.name}{site}" + (f"({arguments})" if arguments else "")


@dataclass(frozen=True)
class Expression:
    """A parsed graft expression.

    Args:
        base: Name of, or path to, the base model's YAML, without the ending for a name.
        grafts: The grafts in the order written.
    """

    base: str
    grafts: tuple[GraftTerm, ...]

    def __str__(self) -> str:
        return "+".join([self.base, *map(str, self.grafts)])

    @property
    def base_yaml(self) -> str:
        """The base as a YAML file name."""
        return self.base if self.base.lower().endswith(_YAML) else f"{self.base}.yaml"


def is_expression(text: str) -> bool:
    """Say whether a model name is meant as a graft expression; the path of an existing file never is."""
    return "+" in text and not _is_file(text) and not text.lower().endswith(_FILES)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # longer than a file name can be, or with a character that none has
        return False


def parse_expression(text: str) -> Expression:
    """Parse a graft expression.

    Args:
        text: For example ``yolo11n+convnextv2_atto(width=auto)+carafe@head``; an ending ``.yaml`` is ignored.

    Raises:
        PlanError: Not an expression; the message shows the column.
    """
    return _Parser(text).expression()


def parse_term(text: str) -> GraftTerm:
    """Parse one graft without a base, such as ``wiou(version=3,inner=0.75)``.

    Raises:
        PlanError: Not one graft; the message shows the column.
    """
    parser = _Parser(text)
    term = parser.graft()
    if parser.rest().strip():
        raise parser.error("expected the end")
    return term


def parse_module(text: str) -> GraftTerm:
    """Parse one graft without a site, as the module name of a row gives it: ``C3k2(PinwheelConv(k=5),at=cv1)``.

    Raises:
        PlanError: Not a graft; the message shows the column.
    """
    return _Parser(text).lone()


class _Parser:
    """Reads an expression from left to right."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise PlanError(f"an expression has at most {MAX_LENGTH} characters, found {len(text)}")
        self.source = text
        self.text = text
        for ending in _YAML:
            if text.lower().endswith(ending) and "+" in text:
                self.text = text[: -len(ending)]
        self.position = 0

    def expression(self) -> Expression:
        base, _, _ = self.text.partition("+")
        base = base.strip()
        if not base:
            raise self.error("an expression begins with a base model, such as yolo11n")
        self.position = len(self.text.partition("+")[0])
        grafts: list[GraftTerm] = []
        while self.take("+"):
            grafts.append(self.graft())
            if len(grafts) > MAX_GRAFTS:
                raise self.error(f"more than {MAX_GRAFTS} grafts")
        if self.rest().strip():
            raise self.error("expected '+' and another graft, or the end")
        names = [str(graft) for graft in grafts]
        for graft in grafts:
            if names.count(str(graft)) > 1:
                raise PlanError(f"the graft '{graft}' is given twice", Location(self.source))
        return Expression(base, tuple(grafts))

    def lone(self) -> GraftTerm:
        term = self.graft(site=False)
        if self.rest().strip():
            raise self.error("expected the end")
        return term

    def graft(self, depth: int = 1, site: bool = True) -> GraftTerm:
        name = self.match(NAME, "a graft's name, such as carafe").group()
        section, number = None, None
        if self.take("@"):
            if depth > 1:
                raise self.error(f"'{name}' stands where the graft around it does; only that one has a site")
            if not site:
                raise self.error("a row stands where it stands, so its module has no site")
            found = self.match(_SITE, "a site: backbone, head, backbone.2")
            section = {"neck": "head"}.get(found.group(1), found.group(1))
            number = int(found.group(2)) if found.group(2) else None
            if section not in SECTIONS:
                hint = nearest(section, SECTIONS)
                raise self.error(
                    f"a site is 'backbone' or 'head', with a row number if wanted; found '{section}'.{hint}",
                    found.start(),
                )
        if not self.take("("):
            return GraftTerm(name, section, number)
        inner = self.inner(depth + 1)
        return GraftTerm(name, section, number, self.pairs(first=inner is None), inner)

    def inner(self, depth: int) -> GraftTerm | None:
        """The graft at the front of the parentheses, if that is no pair; nothing is read of a pair."""
        self.skip()
        found = NAME.match(self.text, self.position)
        if found is None or not self.text[found.end() :].lstrip().startswith(("(", ")", ",", "@")):
            return None
        if depth > MAX_DEPTH:
            raise self.error(f"more than {MAX_DEPTH} grafts inside each other")
        return self.graft(depth)

    def pairs(self, first: bool) -> dict[str, Any]:
        """The pairs up to the closing parenthesis.

        Args:
            first: Nothing stands in front of them; else a comma does.
        """
        pairs: dict[str, Any] = {}
        while not self.take(")"):
            if (pairs or not first) and not self.take(","):
                raise self.error("expected ',' or ')'")
            found = self.match(_KEY, "an argument's name")
            key = found.group()
            if not self.take("="):
                end = ", or ')'" if first and not pairs else ""
                raise self.error(f"expected '=' and a value after '{key}'{end}")
            if key in pairs:
                raise self.error(f"the argument '{key}' is given twice", found.start())
            pairs[key] = self.values() if self.take("(") else self.value()
        return pairs

    def values(self) -> tuple[Any, ...]:
        """The values up to the closing parenthesis, at least one."""
        values = [self.value()]
        while not self.take(")"):
            if not self.take(","):
                raise self.error("expected ',' or ')'")
            values.append(self.value())
        return tuple(values)

    def value(self) -> Any:
        self.skip()
        quoted = _QUOTED.match(self.text, self.position)
        if quoted:
            self.position = quoted.end()
            return quoted.group(1) if quoted.group(1) is not None else quoted.group(2)
        return read_scalar(self.match(_BARE, "a value").group().strip())

    def skip(self) -> None:
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1

    def take(self, character: str) -> bool:
        self.skip()
        if self.text.startswith(character, self.position):
            self.position += 1
            return True
        return False

    def match(self, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
        self.skip()
        found = pattern.match(self.text, self.position)
        if found is None:
            raise self.error(f"expected {expected}")
        self.position = found.end()
        return found

    def rest(self) -> str:
        return self.text[self.position :]

    def error(self, message: str, start: int | None = None) -> PlanError:
        """An error at the current position, with what stands there, or about something that began at ``start``."""
        if start is not None:
            return PlanError(f"{message} (at column {start + 1})", Location(self.source))
        found = f"'{self.rest()[:30]}'" if self.rest() else "the end"
        return PlanError(f"{message}; found {found} at column {self.position + 1}", Location(self.source))


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({','.join(map(_written, value))})"
    if isinstance(value, str) and (read_scalar(value) != value or not _BARE.fullmatch(value) or value != value.strip()):
        # Single quotes where possible: older releases write a model's name between double ones into their DDP script.
        return f"'{value}'" if "'" not in value else f'"{value}"'
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"  # "inf" would be read as a text
    return str(value)
