"""Where everything in a drawing stands: a lane for every stride, a line for every layer, tracks for the edges.

The grid is computed, not searched for: a layer stands in the lane of its stride, on the line of its number. An edge
runs down its source's lane, or its target's, where no box is in between, else down the gutter beside it. Vertical and
horizontal pieces of different sources that would lie on each other get neighbouring tracks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from detgraft.drawing.anatomy import Anatomy, Layer

BOX_WIDTH = 148
BOX_HEIGHT = 50
ASIDE_WIDTH = 176
MARGIN = 16
HEADER = 30
_GUTTER = 16
_GAP = 18
_TRACK = 7
_COLUMN_TRACK = 11


@dataclass(frozen=True)
class Box:
    """A layer's rectangle, in pixels.

    Args:
        layer: The layer.
        x: Left edge.
        y: Upper edge.
        width: Width.
        height: Height.
    """

    layer: Layer
    x: float
    y: float
    width: float
    height: float = BOX_HEIGHT

    @property
    def centre(self) -> float:
        """The middle from left to right."""
        return self.x + self.width / 2


@dataclass(frozen=True)
class Edge:
    """A line from one layer to another.

    Args:
        source: Index of the layer that it comes from.
        target: Index of the layer that it leads to.
        points: The corners of the line.
    """

    source: int
    target: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Layout:
    """A drawing's geometry.

    Args:
        width: Width of the whole in pixels.
        height: Height of the whole in pixels.
        lanes: Title and middle of every lane.
        boxes: The model's layers.
        aside: The other model's layers.
        edges: The lines between the model's layers.
        aside_x: Left edge of the other model's column; None where there is none.
    """

    width: float
    height: float
    lanes: tuple[tuple[str, float], ...]
    boxes: tuple[Box, ...]
    aside: tuple[Box, ...]
    edges: tuple[Edge, ...]
    aside_x: float | None


@dataclass
class _Tracks:
    """Gives pieces that overlap different tracks; pieces of one source share theirs."""

    taken: list[list[tuple[float, float, int]]] = field(default_factory=list)

    def place(self, start: float, end: float, source: int, below: bool = False) -> int:
        """Return the first free track, or the first one below all that other sources have where the piece is."""
        start, end = min(start, end), max(start, end)
        met = [
            number
            for number, pieces in enumerate(self.taken)
            if not all(owner == source or end <= a or start >= b for a, b, owner in pieces)
        ]
        first = max(met, default=-1) + 1 if below else 0
        number = next(track for track in range(first, len(self.taken) + 1) if track not in met)
        if number == len(self.taken):
            self.taken.append([])
        self.taken[number].append((start, end, source))
        return number


@dataclass
class _Route:
    """An edge before its pixels are known.

    Args:
        source: Layer that it comes from.
        target: Layer that it leads to.
        leave: Lane in which it leaves its source.
        column: Lane or gutter that its vertical piece runs in: ("lane", number) or ("gutter", number).
        arrive: Lane in which it reaches its target.
        track: Track in that column.
        upper: Track in the gap below the source, where it runs sideways there.
        lower: Track in the gap above the target, where it runs sideways there.
    """

    source: int
    target: int
    leave: int
    column: tuple[str, int]
    arrive: int
    track: int = 0
    upper: int | None = None
    lower: int | None = None


def lines_of(anatomy: Anatomy) -> list[tuple[Layer | None, Layer | None]]:
    """Put the layers of a model and of the one beside it on common lines, like the two sides of a comparison.

    Returns:
        On every line a layer of the model, a layer of the other one, or both: a pair that continue each other, or what
        came in place of something else.
    """
    if anatomy.other is None:
        return [(layer, None) for layer in anatomy.layers]
    others, at = anatomy.other.layers, 0
    lines: list[tuple[Layer | None, Layer | None]] = []
    fresh: list[Layer] = []

    def flush(until: int) -> None:
        nonlocal at
        removed = list(others[at:until])
        for number in range(max(len(fresh), len(removed))):
            lines.append(
                (
                    fresh[number] if number < len(fresh) else None,
                    removed[number] if number < len(removed) else None,
                )
            )
        fresh.clear()
        at = max(at, until)

    for layer in anatomy.layers:
        if layer.origin is None or layer.origin < at:  # an origin out of order stays readable in its text
            fresh.append(layer)
            continue
        flush(layer.origin)
        lines.append((layer, others[layer.origin]))
        at = layer.origin + 1
    flush(len(others))
    return lines


def lay_out(anatomy: Anatomy) -> Layout:
    """Compute the drawing of a model, with the other one beside it."""
    lines = lines_of(anatomy)
    rows = {layer.index: row for row, (layer, _) in enumerate(lines) if layer is not None}
    strides = sorted({stride for layer in anatomy.layers for stride in layer.strides}) or [1]
    lanes = _lanes(anatomy.layers, strides)
    covers: dict[int, tuple[int, int]] = {rows[index]: lanes[index] for index in lanes}
    columns: dict[tuple[str, int], _Tracks] = {}
    gaps = [_Tracks() for _ in range(len(lines) + 1)]
    routes = [
        _route(source, layer.index, lanes, rows, covers)
        for layer in anatomy.layers
        for source in dict.fromkeys(layer.sources)
        if source in lanes
    ]
    # Long lines first, so that they lie outside and straight.
    routes_by_length = sorted(routes, key=lambda r: (rows[r.source] - rows[r.target], r.source))
    for route in routes_by_length:
        tracks = columns.setdefault(route.column, _Tracks())
        route.track = tracks.place(rows[route.source] + 0.4, rows[route.target] - 0.4, route.source)
        if route.column != ("lane", route.leave):
            gap = gaps[rows[route.source] + 1]
            route.upper = gap.place(*_reach(route.leave, _middle(route)), route.source)
    # In the same gap lines arrive below those that leave: on one line, a layer would seem to feed what it does not.
    for route in routes_by_length:
        if route.column != ("lane", route.arrive):
            gap = gaps[rows[route.target]]
            route.lower = gap.place(*_reach(route.arrive, _middle(route)), route.source, below=True)
    xs = _lane_positions(len(strides), columns)
    ys, height = _line_positions(len(lines), gaps)
    boxes = {
        index: Box(
            anatomy.layers[index],
            xs[first],
            ys[rows[index]],
            xs[last] + BOX_WIDTH - xs[first],
        )
        for index, (first, last) in lanes.items()
    }
    edges = tuple(_edge(route, boxes, xs, len(gaps[rows[route.target]].taken), routes) for route in routes)
    right = xs[-1] + BOX_WIDTH + _room(columns.get(("gutter", len(strides) - 1)))
    aside_x = right + 24 if anatomy.other is not None else None
    aside = tuple(
        Box(other, aside_x or 0.0, ys[row], ASIDE_WIDTH) for row, (_, other) in enumerate(lines) if other is not None
    )
    return Layout(
        width=(aside_x + ASIDE_WIDTH if aside_x is not None else right) + MARGIN,
        height=height + MARGIN,
        lanes=tuple((f"stride {stride}", xs[number] + BOX_WIDTH / 2) for number, stride in enumerate(strides)),
        boxes=tuple(boxes[layer.index] for layer in anatomy.layers),
        aside=aside,
        edges=edges,
        aside_x=aside_x,
    )


def _lanes(layers: Sequence[Layer], strides: list[int]) -> dict[int, tuple[int, int]]:
    """First and last lane of every layer; what returns no feature maps stands below all that feeds it."""
    found: dict[int, tuple[int, int]] = {}
    for layer in layers:
        if layer.strides:
            found[layer.index] = strides.index(layer.strides[0]), strides.index(layer.strides[-1])
            continue
        fed = [found[source] for source in layer.sources if source in found] or [(0, 0)]
        found[layer.index] = min(first for first, _ in fed), max(last for _, last in fed)
    return found


def _route(
    source: int,
    target: int,
    lanes: dict[int, tuple[int, int]],
    rows: dict[int, int],
    covers: dict[int, tuple[int, int]],
) -> _Route:
    (s1, s2), (t1, t2) = lanes[source], lanes[target]
    leave = min(max(t1, s1), s2) if s1 != s2 else s1
    arrive = min(max(leave, t1), t2)
    between = range(rows[source] + 1, rows[target])

    def is_free(lane: int) -> bool:
        return not any(first <= lane <= last for row in between for first, last in [covers.get(row, (1, 0))])

    if is_free(leave):
        return _Route(source, target, leave, ("lane", leave), arrive)
    if is_free(arrive):
        return _Route(source, target, leave, ("lane", arrive), arrive)
    return _Route(source, target, leave, ("gutter", leave - 1 if arrive < leave else leave), arrive)


def _middle(route: _Route) -> float:
    """Where the vertical piece runs, in lanes."""
    return route.column[1] + (0.5 if route.column[0] == "lane" else 1.0)


def _reach(lane: int, middle: float) -> tuple[float, float]:
    """What a sideways piece takes up, in lanes: from its vertical piece to the far side of the ends in its lane."""
    near = lane + 0.5
    return (near - 0.2, middle + 0.05) if middle > near else (middle - 0.05, near + 0.2)


def _room(tracks: _Tracks | None) -> float:
    return _TRACK * (len(tracks.taken) + 1) if tracks is not None and tracks.taken else 0.0


def _lane_positions(count: int, columns: dict[tuple[str, int], _Tracks]) -> list[float]:
    x = MARGIN + _room(columns.get(("gutter", -1)))
    found = []
    for lane in range(count):
        found.append(x)
        x += BOX_WIDTH + max(_GUTTER, _room(columns.get(("gutter", lane))))
    return found


def _line_positions(count: int, gaps: list[_Tracks]) -> tuple[list[float], float]:
    y, found = float(HEADER), []
    for row in range(count):
        y += _height(gaps[row])
        found.append(y)
        y += BOX_HEIGHT
    return found, y


def _height(gap: _Tracks) -> float:
    return _GAP + _TRACK * max(len(gap.taken) - 1, 0)


def _edge(
    route: _Route,
    boxes: dict[int, Box],
    xs: list[float],
    tracks: int,
    routes: Iterable[_Route],
) -> Edge:
    source, target = boxes[route.source], boxes[route.target]
    kind, number = route.column
    if kind == "lane":
        offset = (route.track + 1) // 2 * (1 if route.track % 2 else -1) * _COLUMN_TRACK
        middle = xs[number] + BOX_WIDTH / 2 + offset
    else:
        left = xs[number] + BOX_WIDTH if number >= 0 else MARGIN / 2
        middle = left + _TRACK * (route.track + 1)
    top, bottom = source.y + source.height, target.y
    points: list[tuple[float, float]]
    if route.upper is None:
        points = [(middle, top)]
    else:
        start = xs[route.leave] + BOX_WIDTH / 2
        y = top + _GAP / 2 + _TRACK * route.upper
        points = [(start, top), (start, y), (middle, y)]
    if route.lower is None:
        points.append((middle, bottom))
    else:
        y = bottom - _GAP / 2 - _TRACK * (tracks - 1 - route.lower)
        end = _entry(route, xs, routes)
        points += [(middle, y), (end, y), (end, bottom)]
    return Edge(route.source, route.target, tuple(points))


def _entry(route: _Route, xs: list[float], routes: Iterable[_Route]) -> float:
    """Where a line that comes from the side enters its target: beside the others that come from a side."""
    mates = [
        mate.source
        for mate in routes
        if mate.target == route.target and mate.arrive == route.arrive and mate.lower is not None
    ]
    straight = any(
        mate.target == route.target and mate.arrive == route.arrive and mate.lower is None for mate in routes
    )
    spread = min(16.0, BOX_WIDTH * 0.8 / max(len(mates), 1))
    place = mates.index(route.source) + (1 if straight else -(len(mates) - 1) / 2)
    return xs[route.arrive] + BOX_WIDTH / 2 + place * spread
