"""Writes a layout as one SVG: with the page's colours where it stands in a page, with its own where it stands alone."""

from __future__ import annotations

from html import escape

from detgraft.drawing.anatomy import Anatomy
from detgraft.drawing.layout import ASIDE_WIDTH, Box, Edge, Layout, lay_out
from detgraft.drawing.words import STATUS, about, about_other, count, cut, difference, operations, shape

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1c2430",
    "faint": "#5b6675",
    "line": "#8a97a8",
    "lane": "#f3f5f8",
    "box": "#ffffff",
    "edge": "#c3ccd8",
    "graft": "#1a56c4",
    "graft-fill": "#e8f0ff",
    "changed": "#8a5a00",
    "changed-fill": "#fff4dc",
    "new": "#146c2e",
    "new-fill": "#e5f6e9",
    "removed": "#b3261e",
    "removed-fill": "#fdebea",
}
DARK = {
    "paper": "#12161c",
    "ink": "#e7ecf3",
    "faint": "#a3afbf",
    "line": "#76859a",
    "lane": "#181e27",
    "box": "#1d2530",
    "edge": "#3b4757",
    "graft": "#8ab4ff",
    "graft-fill": "#1b2c4d",
    "changed": "#f2c063",
    "changed-fill": "#3a2e14",
    "new": "#7fd897",
    "new-fill": "#17321f",
    "removed": "#ff9a92",
    "removed-fill": "#3d1d1b",
}
STYLE = """
.dg { font-family: system-ui, "Segoe UI", "Noto Sans", Arial, sans-serif; font-size: 11px; }
.dg text { fill: var(--ink); }
.dg .faint { fill: var(--faint); font-size: 10.5px; }
.dg .name { font-weight: 600; font-size: 12px; }
.dg .lane { fill: var(--lane); }
.dg .box { fill: var(--box); stroke: var(--edge); }
.dg .new .box { stroke: var(--new); fill: var(--new-fill); }
.dg .changed .box { stroke: var(--changed); fill: var(--changed-fill); }
.dg .graft .box { stroke: var(--graft); stroke-width: 2; fill: var(--graft-fill); }
.dg .changed .mark { fill: var(--changed); }
.dg .new .mark { fill: var(--new); }
.dg .removed .mark { fill: var(--removed); }
.dg .aside.removed .box { fill: var(--removed-fill); stroke: var(--removed); stroke-dasharray: 2 3; }
.dg .aside.removed .name { text-decoration: line-through; }
.dg .edge { fill: none; stroke: var(--line); stroke-width: 1.4; }
.dg .head { fill: var(--line); }
.dg .pair { stroke: var(--edge); stroke-dasharray: 1 4; }
.dg .on .box { stroke: var(--graft); stroke-width: 2.5; }
.dg .edge.on { stroke: var(--graft); stroke-width: 2.6; }
"""


def variables(colours: dict[str, str]) -> str:
    """Return colours as CSS variables."""
    return " ".join(f"--{name}: {value};" for name, value in colours.items())


def draw(anatomy: Anatomy, *, alone: bool = True) -> str:
    """Return the drawing of a model as SVG text.

    Args:
        anatomy: The model, and the one beside it.
        alone: It is a file of its own, with its own colours; otherwise a part of a page that has them.
    """
    layout = lay_out(anatomy)
    width, height = f"{layout.width:.0f}", f"{layout.height:.0f}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="dg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(anatomy.name)}: {len(anatomy.layers)} layers">'
    ]
    if alone:
        parts.append(f"<style>.dg {{ {variables(LIGHT)} }}{STYLE}</style>")
        parts.append(f'<rect width="{width}" height="{height}" fill="{LIGHT["paper"]}"/>')
    parts += _lanes(layout)
    parts += [_edge(edge) for edge in layout.edges]
    if layout.aside_x is not None and anatomy.other is not None:
        parts.append(_text(layout.aside_x, 20, f"{cut(anatomy.other.name, 26)} (beside)", "faint"))
        parts += _pairs(layout)
    parts += [_box(box, anatomy) for box in layout.boxes]
    parts += [_aside(box, anatomy) for box in layout.aside]
    return "\n".join([*parts, "</svg>\n"])


def _lanes(layout: Layout) -> list[str]:
    parts = []
    for title, middle in layout.lanes:
        parts.append(
            f'<rect class="lane" x="{middle - 78:.1f}" y="6" width="156" height="{layout.height - 12:.1f}" rx="6"/>'
        )
        parts.append(f'<text class="faint" text-anchor="middle" x="{middle:.1f}" y="20">{escape(title)}</text>')
    return parts


def _edge(edge: Edge) -> str:
    x, y = edge.points[-1]
    head = f"M{x - 3.2:.1f} {y - 6:.1f}L{x:.1f} {y:.1f}L{x + 3.2:.1f} {y - 6:.1f}Z"
    data = f'data-from="{edge.source}" data-to="{edge.target}"'
    return f'<path class="edge" {data} d="{_rounded(edge.points)}"/><path class="head" d="{head}"/>'


def _rounded(points: tuple[tuple[float, float], ...]) -> str:
    """A path through right angles with their corners rounded."""
    kept = [points[0]]
    for point in points[1:]:
        if point != kept[-1]:
            kept.append(point)
    text = f"M{kept[0][0]:.1f} {kept[0][1]:.1f}"
    for before, corner, after in zip(kept, kept[1:], kept[2:], strict=False):
        entering, leaving = _towards(corner, before), _towards(corner, after)
        text += (
            f"L{entering[0]:.1f} {entering[1]:.1f}Q{corner[0]:.1f} {corner[1]:.1f} {leaving[0]:.1f} {leaving[1]:.1f}"
        )
    return text + f"L{kept[-1][0]:.1f} {kept[-1][1]:.1f}"


def _towards(corner: tuple[float, float], other: tuple[float, float], radius: float = 4.0) -> tuple[float, float]:
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = max(abs(dx) + abs(dy), 1e-6)
    share = min(radius, length / 2) / length
    return corner[0] + dx * share, corner[1] + dy * share


def _pairs(layout: Layout) -> list[str]:
    """A faint line from every layer to the one beside it on its line."""
    beside = {box.y: box for box in layout.aside}
    return [
        f'<path class="pair" d="M{box.x + box.width + 4:.1f} {box.y + 25:.1f}H{beside[box.y].x - 4:.1f}"/>'
        for box in layout.boxes
        if box.y in beside and box.layer.origin == beside[box.y].layer.index
    ]


def _text(x: float, y: float, text: str, kind: str = "", more: str = "") -> str:
    styled = f' class="{kind}"' if kind else ""
    return f'<text{styled} x="{x:.1f}" y="{y:.1f}"{more}>{escape(text)}</text>'


def _box(box: Box, anatomy: Anatomy) -> str:
    layer = box.layer
    kinds = " ".join(kind for kind in ("layer", "graft" if layer.graft else "", layer.status) if kind)
    mark = STATUS[layer.status] if layer.status in ("new", "changed") else ""
    room = int((box.width - 14 - 6.2 * len(mark)) / 6.9)
    parts = [
        f'<g class="{kinds}" data-layer="{layer.index}" tabindex="0"><title>{escape(about(layer, anatomy))}</title>',
        f'<rect class="box" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height}" rx="5"/>',
        _text(box.x + 7, box.y + 15, cut(f"{layer.index} {layer.name}", room), "name"),
        _text(box.x + 7, box.y + 29, cut(shape(layer.shape, 4), int((box.width - 12) / 5.6)), "faint"),
        _text(box.x + 7, box.y + 43, f"{count(layer.params)} \u00b7 {operations(layer.gflops)}", "faint"),
    ]
    if mark:
        parts.append(_text(box.x + box.width - 6, box.y + 15, mark, "mark", ' text-anchor="end"'))
    return "".join([*parts, "</g>"])


def _aside(box: Box, anatomy: Anatomy) -> str:
    layer = box.layer
    here = [entry for entry in anatomy.layers if entry.origin == layer.index]
    status = here[0].status if here else "removed"
    line = STATUS[status] if status != "changed" else difference(here[0], layer)
    parts = [
        f'<g class="aside {status}" data-other="{layer.index}" tabindex="0">'
        f"<title>{escape(about_other(layer, anatomy))}</title>",
        f'<rect class="box" x="{box.x:.1f}" y="{box.y:.1f}" width="{ASIDE_WIDTH}" height="{box.height}" rx="5"/>',
        _text(box.x + 7, box.y + 15, cut(f"{layer.index} {layer.name}", 23), "name"),
        _text(box.x + 7, box.y + 29, f"{count(layer.params)} \u00b7 {operations(layer.gflops)}", "faint"),
        _text(box.x + 7, box.y + 43, cut(line, 31), "mark"),
    ]
    return "".join([*parts, "</g>"])
