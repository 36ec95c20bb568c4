"""Writes a layout as a file that draw.io (diagrams.net) opens, with boxes and connected lines to go on editing."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from detgraft.drawing.anatomy import Anatomy
from detgraft.drawing.layout import ASIDE_WIDTH, Box, Edge, Layout, lay_out
from detgraft.drawing.svg import LIGHT
from detgraft.drawing.words import about, about_other, count, operations, shape


def drawio(anatomy: Anatomy) -> str:
    """Return the drawing as an uncompressed draw.io file."""
    layout = lay_out(anatomy)
    cells = ['<mxCell id="0"/>', '<mxCell id="1" parent="0"/>', *_lanes(layout)]
    cells += [
        _cell(f"layer{box.layer.index}", box, about(box.layer, anatomy), _style(box.layer.graft, box.layer.status))
        for box in layout.boxes
    ]
    continued = {layer.origin: layer.status for layer in anatomy.layers}
    cells += [
        _cell(
            f"other{box.layer.index}",
            box,
            about_other(box.layer, anatomy),
            _style(False, continued.get(box.layer.index, "removed")),
        )
        for box in layout.aside
    ]
    if layout.aside_x is not None and anatomy.other is not None:
        cells.append(
            f'<mxCell id="beside" vertex="1" parent="1" value={quoteattr(f"{anatomy.other.name} (beside)")} '
            f'style="text;strokeColor=none;fillColor=none;align=left;verticalAlign=top;fontColor={LIGHT["faint"]};">'
            f'<mxGeometry x="{layout.aside_x:.1f}" y="6" width="{ASIDE_WIDTH}" height="20" as="geometry"/></mxCell>'
        )
    boxes = {box.layer.index: box for box in layout.boxes}
    for edge in layout.edges:
        points = "".join(f'<mxPoint x="{x:.1f}" y="{y:.1f}"/>' for x, y in edge.points[1:-1])
        corners = f'<Array as="points">{points}</Array>' if points else ""
        cells.append(
            f'<mxCell id="edge{edge.source}-{edge.target}" edge="1" parent="1" source="layer{edge.source}" '
            f'target="layer{edge.target}" style="{_ends(edge, boxes)}rounded=1;strokeColor={LIGHT["line"]};">'
            f'<mxGeometry relative="1" as="geometry">{corners}</mxGeometry></mxCell>'
        )
    size = f'pageWidth="{layout.width:.0f}" pageHeight="{layout.height:.0f}"'
    return (
        f'<mxfile host="detgraft"><diagram name={quoteattr(anatomy.name)}><mxGraphModel grid="0" page="1" {size}><root>'
        + "".join(cells)
        + "</root></mxGraphModel></diagram></mxfile>\n"
    )


def _lanes(layout: Layout) -> list[str]:
    return [
        f'<mxCell id="lane{number}" vertex="1" parent="1" value={quoteattr(title)} '
        f'style="rounded=1;arcSize=2;verticalAlign=top;fontColor={LIGHT["faint"]};strokeColor=none;fillColor={LIGHT["lane"]};">'
        f'<mxGeometry x="{middle - 78:.1f}" y="6" width="156" height="{layout.height - 12:.1f}" as="geometry"/>'
        "</mxCell>"
        for number, (title, middle) in enumerate(layout.lanes)
    ]


def _ends(edge: Edge, boxes: dict[int, Box]) -> str:
    """Fix both ends of a line where the layout has them; draw.io would choose others, and other corners with them."""
    shares = []
    for index, x in ((edge.source, edge.points[0][0]), (edge.target, edge.points[-1][0])):
        shares.append((x - boxes[index].x) / boxes[index].width)
    leave, arrive = shares
    return (
        f"edgeStyle=orthogonalEdgeStyle;exitX={leave:.4f};exitY=1;exitDx=0;exitDy=0;"
        f"entryX={arrive:.4f};entryY=0;entryDx=0;entryDy=0;"
    )


def _style(graft: bool, status: str) -> str:
    stroke = LIGHT["graft"] if graft else LIGHT.get(status, LIGHT["edge"])
    fill = LIGHT["graft-fill"] if graft else LIGHT.get(f"{status}-fill", LIGHT["box"])
    dashed, ink = "dashed=1;" if status == "removed" else "", LIGHT["ink"]
    return f"rounded=1;html=1;align=left;spacingLeft=6;fontColor={ink};strokeColor={stroke};fillColor={fill};{dashed}"


def _cell(name: str, box: Box, tip: str, style: str) -> str:
    layer = box.layer
    label = (
        f"<b>{layer.index} {escape(layer.name)}</b><br>{shape(layer.shape, 4)}<br>"
        f"{count(layer.params)} \u00b7 {operations(layer.gflops)}"
    )
    return (
        f"<UserObject id={quoteattr(name)} label={quoteattr(label)} tooltip={quoteattr(tip)}>"
        f'<mxCell vertex="1" parent="1" style={quoteattr(style)}>'
        f'<mxGeometry x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height}" as="geometry"/>'
        "</mxCell></UserObject>"
    )
