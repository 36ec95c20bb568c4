"""Necks: rows between a base's backbone and its head, put into any base in place of its own.

They come from a fragment (:mod:`detgraft.plan.fragments`) or from a whole model, whose neck is read as such rows.
Everything up to the backbone's last context module (SPPF, C2PSA; RT-DETR's AIFI, which stands in the head) stays, and
so does the head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detgraft.catalog.spec import Graft
from detgraft.errors import Location
from detgraft.plan.compose import CONTEXT, Composition, Node
from detgraft.plan.structure import Base

LEVELS: Mapping[str, int] = {f"P{k}": 2**k for k in range(1, 7)}
"""Strides by the names of the features."""

KNOWN = f"{next(iter(LEVELS))} to {list(LEVELS)[-1]}"
"""What they are called in messages."""

_FLAT = frozenset({"Classify"})
"""Heads that read no pyramid."""

Source = tuple[Node, int] | None


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


def neck_of(model: Base) -> Neck:
    """Read the neck of a whole model.

    Args:
        model: The model as a base; its name is the file, for messages.

    Raises:
        PlanError: It has no neck, or one that reads or gives features of other strides than P1 to P6.
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
                f"{reader.module} of its neck reads a feature of stride {stride}, which is none of {KNOWN}"
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
            raise model.refuse(f"its head {head.module} does not read one feature each of {KNOWN}")
        outputs[_level(stride)] = found(source, head)
    return Neck(model.name, tuple(rows), outputs)


def levels_of(base: Base) -> list[str]:
    """Return the levels that a base's head reads, the finest first; what is no single feature is left out.

    Args:
        base: The base.
    """
    _, head = _trunk(base)
    strides = {_stride(base, source) for source in head.sources if source is not None}
    return [name for name, stride in LEVELS.items() if stride in strides]


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
            f"{', '.join(sorted(features)) or f'none of {KNOWN}'}"
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
