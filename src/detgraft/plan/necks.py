"""Necks: rows between a base's backbone and its head, described once and put into any base.

A neck is a *fragment*: rows as in a model YAML that call each other, and the features that they read and give, by
name.

::

    inputs: [P3, P4, P5]                 # features of the backbone: P3 has stride 8, P4 16, P5 32
    outputs: {P3: fine, P4: coarse, P5: P5}
    options: {width: 256}                # what rows may name; +NECK(width=...) changes it
    rows:
      - lifted: [P5, 1, nn.Upsample, [None, 2, nearest]]
      - [[lifted, P4], 1, Concat, [1]]   # a row that only the next one reads needs no name
      - coarse: [-1, 3, C2f, [width]]
      ...

``repeat`` builds rows several times over, each time from what the time before gave::

      - repeat: layers                   # a number or an option
        over: {P3: fine, P4: coarse}     # the second time P3 is what the first time called fine
        rows: [...]

A model's own neck is read as such a fragment, too. Everything up to the backbone's last context module (SPPF, C2PSA;
RT-DETR's AIFI, which stands in the head) stays, and so does the head.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detgraft.base.located import Kind, Located, parse_located, read_bytes
from detgraft.catalog.spec import Graft
from detgraft.errors import ArgumentError, Location, PlanError, nearest
from detgraft.plan.compose import CONTEXT, Composition, Node
from detgraft.plan.rows import LISTS, MAX_REPEATS, MAX_ROWS
from detgraft.plan.structure import Base

KIND = Kind("neck", "a mapping with 'inputs', 'outputs' and 'rows'", unique=True)
LEVELS: Mapping[str, int] = {f"P{k}": 2**k for k in range(2, 7)}
"""Strides by the names of the features."""

MAX_PASSES = 20
_KEYS = ("inputs", "outputs", "options", "rows")
_NAME = re.compile(r"[A-Za-z_]\w*")
_FLAT = frozenset({"Classify"})
"""Heads that read no pyramid."""

Source = tuple[Node, int] | None
Meaning = Callable[[str, bool | None, Location], Graft | None]
"""Returns the graft that a module name means, None for a stock module; raises for a name that nobody has."""


@dataclass(frozen=True)
class NeckRow:
    """One row of a neck.

    Args:
        sources: What feeds it: the name of an input, or the position of an earlier row.
        many: ``from`` is written as a list.
        repeats: Repeats as written.
        module: Module name.
        args: Arguments.
        graft: The graft that it means, None for a stock module.
        location: Where it stands.
        name: Its name, or an empty text.
    """

    sources: tuple[str | int, ...]
    many: bool
    repeats: int
    module: str
    args: tuple[Any, ...]
    graft: Graft | None
    location: Location
    name: str = ""


@dataclass(frozen=True)
class Neck:
    """The rows between a backbone and a head.

    Args:
        source: The file that it was read from, for messages.
        rows: Its rows in order.
        outputs: What each level of the head reads: the name of an input, or the position of a row.
    """

    source: str
    rows: tuple[NeckRow, ...]
    outputs: Mapping[str, str | int]

    def inputs(self) -> list[str]:
        """Return the names of the features that it reads, the finest first."""
        read = {source for row in self.rows for source in row.sources if isinstance(source, str)}
        read |= {found for found in self.outputs.values() if isinstance(found, str)}
        return sorted(read)


def read_neck(path: str | Path, source: str, meaning: Meaning, options: Mapping[str, Any] | None = None) -> Neck:
    """Read a neck from a file.

    Args:
        path: The file.
        source: How to call it in messages.
        meaning: See :data:`Meaning`.
        options: Values in place of the file's own.

    Raises:
        PlanError: Missing, unreadable, or not a neck: names the line, what was expected and the nearest name.
        ArgumentError: An option that it does not have.
    """
    text = read_bytes(path, source, PlanError, KIND).decode("utf-8", errors="replace")
    return parse_neck(text, source, meaning, options)


def parse_neck(text: str, source: str, meaning: Meaning, options: Mapping[str, Any] | None = None) -> Neck:
    """Parse the text of a neck, see :func:`read_neck`."""
    return _Reader(parse_located(text, source, PlanError, KIND), meaning, options or {}).neck()


@dataclass
class _Reader:
    """Reads a fragment row by row; what a name means is known as soon as its row is read.

    Args:
        document: The parsed file.
        meaning: See :data:`Meaning`.
        changed: Options of the expression.
    """

    document: Located
    meaning: Meaning
    changed: Mapping[str, Any]
    rows: list[NeckRow] = field(default_factory=list)
    known: dict[str, str | int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def neck(self) -> Neck:
        values, at = self.document.values, self.document
        at.check_keys(values, _KEYS, "key")
        for key in ("inputs", "outputs", "rows"):
            if key not in values:
                raise at.fail(f"a neck has '{key}:', which is missing; its keys are {', '.join(_KEYS)}")
        self._read_options()
        inputs = values["inputs"]
        if not isinstance(inputs, list) or not inputs:
            raise at.fail(f"'inputs:' lists features, such as [P3, P4, P5], found {inputs!r:.80}", "inputs")
        for position, name in enumerate(inputs):
            if not isinstance(name, str) or name not in LEVELS:
                raise at.fail(f"an input is one of {', '.join(LEVELS)}, found {name!r:.40}", "inputs", position)
            if name in self.known:
                raise at.fail(f"the input {name} is listed twice", "inputs", position)
            self.known[name] = name
        entries = values["rows"]
        if not isinstance(entries, list) or not entries:
            raise at.fail(
                f"'rows:' must be a list of rows [from, repeats, module, args], found {entries!r:.80}", "rows"
            )
        self._read_rows(entries, ("rows",))
        outputs = self._read_outputs()
        self._refuse_unused(inputs, outputs)
        return Neck(self.document.source, tuple(self.rows), outputs)

    def _read_options(self) -> None:
        found = self.document.values.get("options") or {}
        if not isinstance(found, dict):
            raise self.document.fail(f"'options:' maps names to values, found {found!r:.80}", "options")
        for name in found:
            if not isinstance(name, str) or not _NAME.fullmatch(name) or name in LEVELS:
                raise self.document.fail(f"an option's name is letters, digits and _, found {name!r:.40}", "options")
        for name in self.changed:
            if name not in found:
                raise ArgumentError(
                    f"the neck {self.document.source} has no option '{name}'; it has "
                    f"{', '.join(found) or 'none'}.{nearest(name, found)}"
                )
        self.options = {**found, **self.changed}

    def _read_rows(self, entries: Sequence[Any], path: tuple[str | int, ...]) -> None:
        for number, entry in enumerate(entries):
            here = (*path, number)
            if isinstance(entry, dict) and "repeat" in entry:
                self._read_group(entry, here)
            elif isinstance(entry, dict):
                if len(entry) != 1:
                    raise self.document.fail(
                        f"a named row is 'name: [from, repeats, module, args]', found {list(entry)!r:.80}", *here
                    )
                name, row = next(iter(entry.items()))
                self._read_row(row, self._new_name(name, here), here)
            else:
                self._read_row(entry, "", here)

    def _new_name(self, name: Any, here: tuple[str | int, ...]) -> str:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise self.document.fail(f"a row's name is letters, digits and _, found {name!r:.40}", *here)
        if name in LEVELS or name in self.options:
            raise self.document.fail(f"'{name}' is the name of {'a feature' if name in LEVELS else 'an option'}", *here)
        if name in self.known:
            raise self.document.fail(f"the name '{name}' is given twice", *here)
        return name

    def _read_group(self, entry: Mapping[Any, Any], here: tuple[str | int, ...]) -> None:
        self.document.check_keys(entry, ("repeat", "over", "rows"), "key of a repeated part", *here)
        passes = self._whole(entry["repeat"], "repeat", MAX_PASSES, (*here, "repeat"))
        over, rows = entry.get("over"), entry.get("rows")
        if not isinstance(over, dict) or not isinstance(rows, list) or not rows:
            raise self.document.fail(
                "a repeated part is 'repeat: NUMBER', 'over: {name: name of a row below}' and 'rows: [...]'", *here
            )
        for name in over:
            self._find(name, (*here, "over", name))
        inside: set[str] = set()
        for _ in range(passes):
            for name in inside:
                del self.known[name]
            before = set(self.known)
            self._read_rows(rows, (*here, "rows"))
            inside = set(self.known) - before
            given = {name: self._find(row, (*here, "over", name)) for name, row in over.items()}
            for name, row in over.items():
                if row not in inside:
                    raise self.document.fail(
                        f"'over' leads to '{row}', which is no row of this part", *here, "over", name
                    )
            self.known |= given

    def _read_row(self, entry: Any, name: str, here: tuple[str | int, ...]) -> None:
        where = self.document.at(*here)
        if not isinstance(entry, list) or len(entry) != 4:
            count = f"{len(entry)} entries" if isinstance(entry, list) else type(entry).__name__
            raise PlanError(f"a row is [from, repeats, module, args] (4 entries), found {count}: {entry!r:.80}", where)
        written, repeats, module, args = entry
        if not isinstance(module, str) or not module:
            raise PlanError(f"the third entry must be a module name, found {module!r:.80}", where)
        if not isinstance(args, list):
            raise PlanError(f"arguments must be a list, found {args!r:.80}", where)
        many = isinstance(written, list)
        if many and not written:
            raise PlanError("'from' names nothing", where)
        sources = tuple(self._source(value, here) for value in (written if many else [written]))
        repeats = self._whole(repeats, "repeats", MAX_REPEATS, here)
        graft = self.meaning(module, None, where)
        if graft is not None and graft.channels in LISTS:
            what = "is a backbone" if graft.channels == "pyramid" else "stands before the head"
            raise PlanError(f"'{module}' {what} and is no row of a neck; +{module} puts it there", where)
        values = tuple(self.options.get(value, value) if isinstance(value, str) else value for value in args)
        self.rows.append(NeckRow(sources, many, repeats, module, values, graft, where, name))
        if len(self.rows) > MAX_ROWS:
            raise PlanError(f"more than {MAX_ROWS} rows", where)
        if name:
            self.known[name] = len(self.rows) - 1

    def _whole(self, value: Any, what: str, most: int, here: tuple[str | int, ...]) -> int:
        found = self.options.get(value, value) if isinstance(value, str) else value
        if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= most:
            words = f"{what} must be a whole number from 1 to {most}, or the name of such an option"
            raise self.document.fail(f"{words}, found {found!r:.40}", *here)
        return found

    def _source(self, value: Any, here: tuple[str | int, ...]) -> str | int:
        if isinstance(value, str):
            return self._find(value, here)
        if isinstance(value, bool) or not isinstance(value, int) or value >= 0:
            raise self.document.fail(
                f"'from' is a name, or -1 for the row before, -2 and so on; found {value!r:.40}", *here
            )
        if len(self.rows) + value < 0:
            raise self.document.fail(f"refers {-value} rows back, but only {len(self.rows)} come before it", *here)
        return len(self.rows) + value

    def _find(self, name: Any, here: tuple[str | int, ...]) -> str | int:
        if not isinstance(name, str):
            raise self.document.fail(f"expected the name of a row or of an input, found {name!r:.40}", *here)
        if name in self.known:
            return self.known[name]
        if name in LEVELS:
            raise self.document.fail(f"reads {name}, which 'inputs:' does not list", *here)
        if name in _names_in(self.document.values.get("rows")):
            raise self.document.fail(f"reads '{name}', a row that does not come before it: a neck has no cycles", *here)
        raise self.document.fail(f"there is no row or input '{name}'.{nearest(name, self.known)}", *here)

    def _read_outputs(self) -> dict[str, str | int]:
        found = self.document.values["outputs"]
        if not isinstance(found, dict) or not found:
            raise self.document.fail(
                f"'outputs:' maps levels to rows, such as {{P3: fine}}, found {found!r:.80}", "outputs"
            )
        for level in found:
            if level not in LEVELS:
                raise self.document.fail(
                    f"an output is one of {', '.join(LEVELS)}, found {level!r:.40}", "outputs", level
                )
        return {level: self._find(row, ("outputs", level)) for level, row in sorted(found.items())}

    def _refuse_unused(self, inputs: Sequence[str], outputs: Mapping[str, str | int]) -> None:
        read: set[str | int] = set(outputs.values())
        for position in range(len(self.rows) - 1, -1, -1):
            if position not in read:
                row = self.rows[position]
                called = f"'{row.name}' ({row.module})" if row.name else row.module
                raise PlanError(f"nothing reads the row {called}; it would be trained by no loss", row.location)
            read.update(self.rows[position].sources)
        for name in inputs:
            if name not in read:
                raise self.document.fail(f"nothing reads the input {name}", "inputs")


def _names_in(rows: Any) -> set[str]:
    """The names that rows anywhere below are given."""
    found: set[str] = set()
    for entry in rows if isinstance(rows, list) else []:
        if isinstance(entry, dict) and "repeat" in entry:
            found |= _names_in(entry.get("rows"))
        elif isinstance(entry, dict):
            found |= {name for name in entry if isinstance(name, str)}
    return found


def neck_of(model: Base) -> Neck:
    """Read the neck of a whole model.

    Args:
        model: The model as a base; its name is the file, for messages.

    Raises:
        PlanError: It has no neck, or one that reads or gives features of other strides than P2 to P6.
    """
    trunk, head = _trunk(model)
    nodes = [node for node in model.nodes() if node.origin not in {kept.origin for kept in (*trunk, head)}]
    if not nodes:
        raise model.refuse("it has no rows between its backbone and its head")
    position = {node.origin: number for number, node in enumerate(nodes)}
    inside = {kept.origin for kept in trunk}

    def found(source: Source, reader: Node) -> str | int:
        if source is not None and source[0].origin in position and source[1] == 0:
            return position[source[0].origin]
        stride = 1 if source is None else _stride(model, source)
        if source is None or source[0].origin not in inside or stride not in LEVELS.values():
            raise model.refuse(
                f"{reader.module} of its neck reads a feature of stride {stride}, which is none of P2 to P6"
            )
        return _level(stride)

    rows = []
    for node in nodes:
        where = model.plan.row_of_layer(node.origin or 0).location
        sources = tuple(found(source, node) for source in node.sources)
        rows.append(NeckRow(sources, node.many, node.repeats, node.module, tuple(node.args), node.graft, where))
    outputs: dict[str, str | int] = {}
    for source in head.sources:
        stride = 0 if source is None else _stride(model, source)
        if stride not in LEVELS.values() or _level(stride) in outputs:
            raise model.refuse(f"its head {head.module} does not read one feature each of P2 to P6")
        outputs[_level(stride)] = found(source, head)
    return Neck(model.name, tuple(rows), outputs)


def put_neck(base: Base, neck: Neck) -> Composition:
    """Put a neck between a base's backbone and its head, in place of the base's own.

    Args:
        base: The base.
        neck: The neck.

    Raises:
        PlanError: The base has no pyramid, lacks a feature that the neck reads, or its head reads other levels.
    """
    trunk, head = _trunk(base)
    wanted = [0 if source is None else _stride(base, source) for source in head.sources]
    given = [LEVELS[level] for level in neck.outputs]
    if sorted(wanted) != sorted(given):
        raise base.refuse(
            f"its head {head.module} reads {_levels(wanted)}, and the neck of {neck.source} gives {_levels(given)}"
        )
    features: dict[str, Source] = {}
    for node in trunk:
        for slot in range(node.span):
            stride = _stride(base, (node, slot))
            if stride in LEVELS.values():
                features[_level(stride)] = (node, slot)
    missing = [name for name in neck.inputs() if name not in features]
    if missing:
        raise base.refuse(
            f"the neck of {neck.source} reads {missing[0]} (stride {LEVELS[missing[0]]}), and the backbone gives "
            f"{', '.join(sorted(features)) or 'none of P2 to P6'}"
        )
    made: list[Node] = []

    def source_of(found: str | int) -> Source:
        return features[found] if isinstance(found, str) else (made[found], 0)

    for row in neck.rows:
        sources = [source_of(found) for found in row.sources]
        made.append(Node("head", row.module, list(row.args), row.repeats, sources, row.many, graft=row.graft))
    head.sources = [source_of(neck.outputs[_level(stride)]) for stride in wanted]
    return base.written([*trunk, *made, head])


def _trunk(base: Base) -> tuple[list[Node], Node]:
    """The rows that stay in front of a neck, and the head.

    Context modules belong to the backbone wherever they stand: RT-DETR's AIFI, with the row that leads to it, and the
    SPPELAN of some YOLOv9 are the first rows of their head sections.
    """
    *body, head = base.nodes()
    if head.module in _FLAT or (len(head.sources) < 2 and not head.many):
        raise base.refuse(f"its head {head.module} reads no pyramid of features")
    behind = [node for node in body if node.section == "head"]
    trunk = [node for node in body if node.section == "backbone"]
    if not trunk:
        raise base.refuse("it has no backbone")
    last, kept = trunk[-1], 0
    for number, node in enumerate(behind):
        if (
            node.many
            or node.sources != [(last, last.span - 1)]
            or _stride(base, (node, 0)) != _stride(base, (last, last.span - 1))
        ):
            break
        last, kept = node, number + 1 if node.module in CONTEXT else kept
    return [*trunk, *behind[:kept]], head


def _stride(base: Base, source: tuple[Node, int]) -> int:
    node, slot = source
    return 0 if node.origin is None else base.strides.get(node.origin + slot, 0)


def _level(stride: int) -> str:
    return next(name for name, found in LEVELS.items() if found == stride)


def _levels(strides: Sequence[int]) -> str:
    names = [_level(stride) if stride in LEVELS.values() else f"stride {stride}" for stride in sorted(strides)]
    return ", ".join(names)
