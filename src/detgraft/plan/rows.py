"""The typed form of a model description: frozen rows, each knowing where it was written.

A plan holds no torch object. Layer indices count as the built model counts them: a backbone row ("pyramid") stands for
five layers, the list row and one selector each for strides 4, 8, 16 and 32 (the tutorials' convention).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from detgraft.catalog.spec import Graft
from detgraft.errors import Location, PlanError, nearest
from detgraft.plan import meanings
from detgraft.plan.activation import check_activation
from detgraft.plan.document import SECTIONS, Document

PYRAMID_LAYERS = 5
PYRAMID_STRIDES = (4, 8, 16, 32)
LISTS = ("pyramid", "refine")
"""Channel rules whose rows become several layers: one with a list of features, and a selector for each of them."""

MAX_ROWS = 500
MAX_REPEATS = 1000


@dataclass(frozen=True)
class Row:
    """One row of a model YAML.

    Args:
        index: Index of its (first) layer in the built model.
        sources: Absolute indices of the layers that feed it; -1 is the image.
        written_from: The ``from`` entry as written.
        repeats: Repeats as written, before the depth multiple.
        module: Module name as written.
        args: Arguments as written.
        section: ``backbone`` or ``head``.
        location: Where it stands.
        span: Number of layers that it becomes.
        graft: The graft that it means, None for a stock module; decided here, and not asked by name again.
    """

    index: int
    sources: tuple[int, ...]
    written_from: int | tuple[int, ...]
    repeats: int
    module: str
    args: tuple[Any, ...]
    section: str
    location: Location
    span: int = 1
    graft: Graft | None = None

    @property
    def written_like(self) -> str:
        """The module whose arguments the row has: its own name, or that of the stock shell around a block."""
        filling = None if self.graft is None else self.graft.filling
        return self.module if filling is None else filling.shell

    @property
    def inner_options(self) -> tuple[Any, ...]:
        """The options of the block inside, where the row is a shell with one."""
        filling = None if self.graft is None else self.graft.filling
        return () if filling is None else tuple(filling.options.values())


@dataclass(frozen=True)
class Scaling:
    """The compound scaling of one model scale.

    Args:
        name: Scale letter, or an empty string where the YAML has no scales.
        depth: Multiple of repeats.
        width: Multiple of channels.
        max_channels: Upper bound of channels before the multiple.
    """

    name: str = ""
    depth: float = 1.0
    width: float = 1.0
    max_channels: float = math.inf

    def channels(self, channels: int) -> int:
        """Scale a channel count as Ultralytics scales Conv: a multiple of 8, rounded up."""
        return math.ceil(min(channels, self.max_channels) * self.width / 8) * 8

    def repeats(self, repeats: int) -> int:
        """Scale a repeat count as Ultralytics does; a single row stays single."""
        return max(round(repeats * self.depth), 1) if repeats > 1 else repeats


@dataclass(frozen=True)
class Plan:
    """A whole model description.

    Args:
        source: File name or expression, for messages.
        rows: All rows, backbone first.
        scaling: The scale in force.
        nc: Class count as written, None where the YAML has none.
        activation: The ``activation:`` entry, checked, or None.
    """

    source: str
    rows: tuple[Row, ...]
    scaling: Scaling
    nc: int | None
    activation: str | None

    def row_of_layer(self, layer: int) -> Row:
        """Return the row that a layer of the built model comes from."""
        for row in self.rows:
            if row.index <= layer < row.index + row.span:
                return row
        raise IndexError(f"the plan has no layer {layer}")


def make_plan(
    document: Document,
    meaning: Callable[[str, bool | None, Location], Graft | None],
) -> Plan:
    """Check a document's structure and turn it into a plan.

    Args:
        document: The parsed YAML.
        meaning: Returns the graft that a module name means, from the name, what the row was recorded as, and where it
            stands; None for a stock module. It raises for a name that does not exist, and is asked row by row, since a
            misspelt backbone would otherwise count as one layer and make later rows look wrong.

    Raises:
        PlanError: A section is missing, a row is malformed, or refers to a layer that does not come before it.
    """
    mapping = document.mapping
    rows: list[Row] = []
    list_layers: dict[int, str] = {}
    was_graft = iter(meanings.recorded(mapping))
    index = 0
    for section in SECTIONS:
        entries = mapping.get(section)
        if not isinstance(entries, list) or (section == "backbone" and not entries):
            found = "nothing" if entries is None else type(entries).__name__
            raise PlanError(
                f"'{section}:' must be a list of rows [from, repeats, module, args], found {found}",
                document.at(section),
            )
        lines = document.row_lines.get(section, ())
        for number, entry in enumerate(entries):
            location = Location(document.source, lines[number] if number < len(lines) else None, index)
            row = _make_row(entry, index, section, location, list_layers)
            graft = meaning(row.module, next(was_graft), location)
            row = replace(row, graft=graft)
            if graft is not None and graft.channels in LISTS:
                row = _as_pyramid(row) if graft.channels == "pyramid" else _as_refiner(row)
                list_layers[index] = _features(row)
            rows.append(row)
            index += row.span
            if len(rows) > MAX_ROWS:
                raise PlanError(f"more than {MAX_ROWS} rows; the largest stock model has 50", location)
    return Plan(document.source, tuple(rows), _scaling(document), _class_count(document), check_activation(document))


def _make_row(entry: object, index: int, section: str, location: Location, list_layers: Mapping[int, str]) -> Row:
    if not isinstance(entry, (list, tuple)) or len(entry) != 4:
        count = f"{len(entry)} entries" if isinstance(entry, (list, tuple)) else type(entry).__name__
        raise PlanError(f"a row is [from, repeats, module, args] (4 entries), found {count}: {entry!r:.80}", location)
    written, repeats, module, args = entry
    if not isinstance(module, str) or not module:
        raise PlanError(f"the third entry must be a module name, found {module!r:.80}", location)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or not 1 <= repeats <= MAX_REPEATS:
        raise PlanError(f"repeats must be a whole number from 1 to {MAX_REPEATS}, found {repeats!r:.80}", location)
    if not isinstance(args, (list, tuple)):
        raise PlanError(f"arguments must be a list, found {args!r:.80}", location)
    if "anchors" in args:  # no release of Ultralytics has a module with anchors among its arguments
        rest = ", ".join(str(value) for value in args if value != "anchors")
        raise PlanError(
            f"'anchors' belong to the format of the YOLOv5 repository; here {module} takes [{rest}]: write "
            f"[{written}, {repeats}, {module}, [{rest}]]",
            location,
        )
    sources, as_written = _sources(written, index, location, list_layers)
    return Row(index, sources, as_written, repeats, module, tuple(args), section, location)


def _sources(
    written: object, index: int, location: Location, list_layers: Mapping[int, str]
) -> tuple[tuple[int, ...], int | tuple[int, ...]]:
    entries = list(written) if isinstance(written, (list, tuple)) else [written]
    if not entries:
        raise PlanError("'from' names no layer", location)
    absolute: list[int] = []
    relative: list[int] = []
    for entry in entries:
        if isinstance(entry, bool) or not isinstance(entry, int):
            raise PlanError(f"'from' must be a layer index or a list of them, found {written!r:.80}", location)
        source = index + entry if entry < 0 else entry
        if source >= index:
            raise PlanError(f"refers to layer {entry}, which does not come before layer {index}", location)
        if source < 0 and not (index == 0 and entry == -1):
            raise PlanError(f"refers {-entry} layers back, but only {index} come before it", location)
        if source in list_layers:
            raise PlanError(f"refers to layer {source}, {list_layers[source]}", location)
        absolute.append(source)
        relative.append(entry)
    return tuple(absolute), tuple(relative) if isinstance(written, (list, tuple)) else relative[0]


def _as_pyramid(row: Row) -> Row:
    if len(row.sources) != 1:
        raise PlanError(f"a backbone takes one input, found {list(row.sources)}", row.location)
    if row.repeats != 1:
        raise PlanError(f"a backbone cannot be repeated, found repeats {row.repeats}", row.location)
    return replace(row, span=PYRAMID_LAYERS)


def _as_refiner(row: Row) -> Row:
    if not isinstance(row.written_from, tuple) or len(row.sources) < 2:
        raise PlanError(
            f"'{row.module}' takes a list of two or more features, the finest first, found 'from' {row.written_from}",
            row.location,
        )
    if row.repeats != 1:
        raise PlanError(f"'{row.module}' cannot be repeated, found repeats {row.repeats}", row.location)
    return replace(row, span=layers_of(row.graft, row.written_from))


def _features(row: Row) -> str:
    """Say of a row with a list of features which layers to read instead."""
    if row.span == PYRAMID_LAYERS and len(row.sources) == 1:
        strides = ", ".join(f"{row.index + k + 1} (stride {s})" for k, s in enumerate(PYRAMID_STRIDES))
        return f"the backbone itself, which has no single feature; use one of {strides}"
    return (
        f"the whole list of '{row.module}', which is no single feature; its features are layers {row.index + 1} to "
        f"{row.index + row.span - 1}"
    )


def layers_of(graft: Graft | None, written_from: object) -> int:
    """Return the number of layers that a row becomes.

    Args:
        graft: The graft that it means, or None.
        written_from: Its ``from`` entry.
    """
    if graft is None or graft.channels not in LISTS:
        return 1
    inputs = len(written_from) if isinstance(written_from, (list, tuple)) else 1
    return PYRAMID_LAYERS if graft.channels == "pyramid" else 1 + inputs


def _scaling(document: Document) -> Scaling:
    mapping = document.mapping
    scales = mapping.get("scales")
    if not scales:
        depth, width = (_number(document, key, mapping.get(key, 1.0)) for key in ("depth_multiple", "width_multiple"))
        return Scaling("", depth, width)
    if not isinstance(scales, dict):
        raise PlanError(
            f"'scales:' must map a letter to [depth, width, max_channels], found {scales!r:.80}", document.at("scales")
        )
    name = mapping.get("scale") or next(iter(scales))
    if name not in scales:
        known = [str(key) for key in scales]
        raise PlanError(
            f"has no scale '{name}'; it has {', '.join(known)}.{nearest(str(name), known)}", document.at("scales")
        )
    entry = scales[name]
    if not isinstance(entry, (list, tuple)) or len(entry) != 3:
        raise PlanError(
            f"scale '{name}' must be [depth, width, max_channels], found {entry!r:.80}", document.at("scales")
        )
    depth, width, max_channels = (_number(document, "scales", value) for value in entry)
    return Scaling(str(name), depth, width, max_channels)


def _number(document: Document, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise PlanError(f"'{key}:' needs numbers above 0, found {value!r:.80}", document.at(key))
    return float(value)


def _class_count(document: Document) -> int | None:
    nc = document.mapping.get("nc")
    if nc is None:
        return None
    if isinstance(nc, bool) or not isinstance(nc, int) or not 1 <= nc <= 100_000:
        raise PlanError(f"'nc:' must be a number of classes from 1 to 100000, found {nc!r:.80}", document.at("nc"))
    return nc


def document_of(mapping: Mapping[str, Any], source: str, lines: Document | None = None) -> Document:
    """Give a plain mapping (from a checkpoint, say) the line numbers of the file that it came from, if it still fits.

    Args:
        mapping: A model description.
        source: How to call it in messages.
        lines: The document read again from that file; its lines are used only when its rows are the same.
    """
    same = lines is not None and all(lines.mapping.get(section) == mapping.get(section) for section in SECTIONS)
    if same and lines is not None:
        return Document(source, dict(mapping), lines.key_lines, lines.row_lines)
    return Document(source, dict(mapping))
