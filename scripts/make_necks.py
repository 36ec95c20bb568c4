"""Draw the rows of every neck and write their costs: docs/necks/*.svg and the generated part of docs/necks.md.

Usage: python scripts/make_necks.py

A row stands in the line of its stride and to the right of all that it reads. Parameters and operations are those of
`detgraft show` at 640 pixels.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from detgraft.catalog.registry import catalogue  # noqa: E402
from detgraft.upstream.describe.expressions import compose_mapping  # noqa: E402
from detgraft.upstream.describe.necks import FOLDER, fragments  # noqa: E402
from detgraft.upstream.describe.plans import plan_of  # noqa: E402
from detgraft.upstream.describe.strides import strides_of  # noqa: E402

PAGE = ROOT / "docs" / "necks.md"
PICTURES = ROOT / "docs" / "necks"
BEGIN, END = "<!-- made by scripts/make_necks.py -->", "<!-- end -->"
BASES = ("yolov8n", "yolo11n", "rtdetr-l")
BASE = "yolov8n"
DRAWN = {"bifpn": "bifpn(layers=1)"}
"""What is drawn where the whole is the same several times over."""

WIDTH, HEIGHT, GAP, LANE, LEFT, TOP = 108, 34, 18, 78, 46, 14
COLOURS = {"input": "#e8e8e8", "up": "#d9ead3", "down": "#f4cccc", "join": "#fff2cc", "other": "#dbe7f6"}


@dataclass
class Box:
    """One row in the picture."""

    layer: int
    stride: int
    column: int
    text: str
    kind: str
    sources: tuple[int, ...]


def boxes(expression: str) -> list[Box]:
    """The rows of a model's neck, and the features that they read."""
    mapping = compose_mapping(expression)
    plan, strides = plan_of(mapping), strides_of(mapping, expression)
    rows = [row for row in plan.rows if row.section == "head"]
    head, rows = rows[-1], rows[:-1]
    read = sorted({s for row in rows for s in row.sources if plan.row_of_layer(s).section == "backbone"})
    found: dict[int, Box] = {}
    taken: set[tuple[int, int]] = set()
    for layer in read:
        stride = strides[layer]
        found[layer] = Box(layer, stride, 0, f"P{stride.bit_length() - 1}", "input", ())
        taken.add((stride, 0))
    for row in rows:
        stride, before = strides[row.index], [found[s] for s in row.sources]
        column = max(box.column for box in before) + 1
        while (stride, column) in taken:
            column += 1
        taken.add((stride, column))
        named = [] if row.module in ("Concat", "nn.Upsample", "nn.MaxPool2d") else row.args[:1]
        widths = [str(value) for value in named if isinstance(value, int)]
        kind = "join" if len(before) > 1 else "other"
        if len(before) == 1 and stride != before[0].stride:
            kind = "up" if stride < before[0].stride else "down"
        text = " ".join([row.module.removeprefix("nn."), *widths])
        found[row.index] = Box(row.index, stride, column, text, kind, row.sources)
    last = max(box.column for box in found.values()) + 1
    ends = {s: strides[s] for s in head.sources}
    outs = [Box(-1, n, last, f"{head.module} P{n.bit_length() - 1}", "input", (s,)) for s, n in ends.items()]
    return [*found.values(), *outs]


def picture(expression: str, title: str) -> str:
    """The neck of a model as SVG."""
    drawn = boxes(expression)
    by_layer = {box.layer: box for box in drawn if box.layer >= 0}
    lanes = sorted({box.stride for box in drawn}, reverse=True)  # the coarsest on top, as pyramids are drawn
    width = LEFT + (max(box.column for box in drawn) + 1) * (WIDTH + GAP)
    height = 2 * TOP + len(lanes) * LANE

    def place(box: Box) -> tuple[int, int]:
        return LEFT + box.column * (WIDTH + GAP), TOP + lanes.index(box.stride) * LANE + (LANE - HEIGHT) // 2

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, stride in enumerate(lanes):
        y = TOP + number * LANE
        parts.append(f'<line x1="0" y1="{y + LANE}" x2="{width}" y2="{y + LANE}" stroke="#eeeeee"/>')
        parts.append(f'<text x="4" y="{y + LANE // 2 + 4}" fill="#888888">/{stride}</text>')
    for box in drawn:
        x, y = place(box)
        for source in box.sources:
            other = by_layer[source]
            x0, y0 = place(other)
            start, end = (x0 + WIDTH, y0 + HEIGHT // 2), (x, y + HEIGHT // 2)
            middle = (start[0] + end[0]) // 2
            bends = (middle, start[1]), (middle, end[1])
            if y0 == y and box.column - other.column > 1:  # over the boxes between them, from top to top
                start, end = (x0 + 3 * WIDTH // 4, y0), (x + WIDTH // 4, y)
                bends = (start[0] + WIDTH // 2, y - LANE // 3), (end[0] - WIDTH // 2, y - LANE // 3)
            elif box.column - other.column > 1:  # from above or below into the box
                end = (x + WIDTH // 4, y if y0 < y else y + HEIGHT)
                bends = (end[0], start[1]), (end[0], (start[1] + end[1]) // 2)
            curve = "C {} {}, {} {}, {} {}".format(*bends[0], *bends[1], *end)
            parts.append(f'<path d="M {start[0]} {start[1]} {curve}" fill="none" stroke="#666666"/>')
    for box in drawn:
        x, y = place(box)
        fill = COLOURS[box.kind]
        parts.append(f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="4" fill="{fill}" stroke="#999999"/>')
        parts.append(f'<text x="{x + WIDTH // 2}" y="{y + 21}" text-anchor="middle">{escape(box.text)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def pictures() -> dict[str, str]:
    """Every picture by the neck's name."""
    return {name: picture(f"{BASE}+{DRAWN.get(name, name)}", f"The rows of +{name}") for name in fragments()}


def costs() -> list[str]:
    """The table of costs."""
    from detgraft import show

    def cell(model: str) -> str:
        found: Any = show(model)
        return f"{found.params / 1e6:.2f} M, {found.gflops:.1f}"

    head = ["| neck |", *(f" {base} |" for base in BASES)]
    lines = ["".join(head), "|---|" + "---|" * len(BASES)]
    lines.append("| stock |" + "".join(f" {cell(base)} |" for base in BASES))
    for name in fragments():
        lines.append(f"| `+{name}` |" + "".join(f" {cell(f'{base}+{name}')} |" for base in BASES))
    return lines


def sections() -> list[str]:
    """One section per neck."""
    lines = []
    for name in fragments():
        entry = catalogue.get(name)
        lines += [f"### `+{name}`", "", f"{entry.summary[0].upper()}{entry.summary[1:]}.", ""]
        lines += [f"{entry.provenance.paper}. {entry.provenance.source}, licence: {entry.provenance.licence}.", ""]
        remark = ", one of its layers" if name in DRAWN else ""
        rows = [line for line in (FOLDER / f"{name}.yaml").read_text("utf-8").splitlines() if line[:1] != "#"]
        lines += [f"![The rows of +{name}](necks/{name}.svg)", "", f"Drawn on {BASE}{remark}. The fragment:", ""]
        lines += ["```yaml", "\n".join(rows).strip(), "```", ""]
    return lines


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    for name, text in pictures().items():
        (PICTURES / f"{name}.svg").write_text(text, "utf-8")
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    made = "\n".join([BEGIN, "", *costs(), "", *sections()])
    PAGE.write_text(f"{before}{made}{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
