"""One page with a model's drawing, what it costs, and what changed; it needs no network and no further file."""

from __future__ import annotations

from html import escape

from detgraft._version import __version__
from detgraft.drawing.anatomy import Anatomy, Layer
from detgraft.drawing.svg import DARK, LIGHT, STYLE, draw, variables
from detgraft.drawing.words import about, count, operations, shape, signed

_PAGE = """
* { box-sizing: border-box; }
body { margin: 0; padding: 20px clamp(12px, 3vw, 40px) 48px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "Noto Sans", "Noto Sans SC", Arial, sans-serif; }
h1 { font-size: clamp(18px, 4vw, 26px); overflow-wrap: anywhere; margin: 0 0 2px; }
h2 { font-size: 17px; margin: 28px 0 8px; }
p { margin: 6px 0; max-width: 80ch; }
.sub { color: var(--faint); }
.cards { display: flex; flex-wrap: wrap; gap: 10px; margin: 14px 0; }
.card { border: 1px solid var(--edge); border-radius: 8px; padding: 8px 12px; background: var(--box);
  flex: 1 1 150px; }
.card b { display: block; font-size: 19px; font-variant-numeric: tabular-nums; }
.card span { color: var(--faint); font-size: 13px; display: block; }
.legend { display: flex; flex-wrap: wrap; gap: 6px 16px; font-size: 13px; color: var(--faint); margin: 8px 0; }
.legend i { display: inline-block; width: 18px; height: 12px; border: 2px solid; border-radius: 3px;
  vertical-align: -1px; margin-right: 5px; }
.frame { overflow: auto; border: 1px solid var(--edge); border-radius: 8px; background: var(--paper); }
.frame svg { display: block; max-width: none; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { text-align: left; padding: 4px 9px; border-bottom: 1px solid var(--edge); vertical-align: top; }
th { position: sticky; top: 0; background: var(--lane); font-weight: 600; white-space: nowrap; }
td.n, th.n { text-align: right; white-space: nowrap; }
td.w { white-space: nowrap; }
td code { font-size: 12px; color: var(--faint); display: block; min-width: 26ch; overflow-wrap: anywhere; }
tr.new td.s { color: var(--new); font-weight: 600; }
tr.changed td.s { color: var(--changed); font-weight: 600; }
tr.removed td { color: var(--removed); }
tr.removed td.s { font-weight: 600; }
tr.graft td.m { color: var(--graft); font-weight: 600; }
"""

_SCRIPT = """
for (const box of document.querySelectorAll("[data-layer]")) {
  const number = box.dataset.layer;
  const lines = document.querySelectorAll(`.edge[data-from="${number}"], .edge[data-to="${number}"]`);
  const mark = on => { box.classList.toggle("on", on); lines.forEach(line => line.classList.toggle("on", on)); };
  for (const name of ["mouseenter", "focus"]) box.addEventListener(name, () => mark(true));
  for (const name of ["mouseleave", "blur"]) box.addEventListener(name, () => mark(false));
}
"""


def page(anatomy: Anatomy) -> str:
    """Return the page as HTML text."""
    summary, other = anatomy.summary, anatomy.other
    height, width = summary.imgsz
    beside = f", beside {escape(other.name)}" if other is not None else ""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">',
        f"<title>{escape(anatomy.name)}</title>",
        f"<style>:root {{ {variables(LIGHT)} }}",
        f"@media (prefers-color-scheme: dark) {{ :root {{ {variables(DARK)} }} }}{_PAGE}{STYLE}</style></head><body>",
        f"<h1>{escape(anatomy.name)}</h1>",
        f'<p class="sub">{len(anatomy.layers)} layers at {height}\u00d7{width}{beside}</p>',
        _cards(anatomy),
        *(f'<p class="sub">{escape(note)}</p>' for note in summary.notes),
        "<h2>Drawing</h2>",
        _legend(anatomy),
        f'<div class="frame">{draw(anatomy, alone=False)}</div>',
        '<p class="sub">Point at a box, or step to it with Tab, for its YAML row and class; its lines light up.</p>',
        "<h2>Layers</h2>",
        f'<div class="frame">{_table(anatomy)}</div>',
        f'<p class="sub">Written by detgraft {__version__}. Operations are counted by FlopCounterMode, in units of 1e9;'
        " a multiplication and an addition are two.</p>",
        f"<script>{_SCRIPT}</script></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _cards(anatomy: Anatomy) -> str:
    summary, other = anatomy.summary, anatomy.other
    params, gflops = f"{summary.params:,}", f"{summary.gflops:.3f}"
    more_params = more_gflops = ""
    if other is not None:
        d_params, d_gflops = summary.params - other.summary.params, summary.gflops - other.summary.gflops
        share = d_params / other.summary.params if other.summary.params else 0.0
        part = d_gflops / other.summary.gflops if other.summary.gflops else 0.0
        more_params = f"{signed(count(d_params), d_params)} ({share:+.1%}) to {escape(other.name)}"
        more_gflops = f"{signed(operations(d_gflops), d_gflops)} ({part:+.1%})"
    cards = [("parameters", params, more_params), ("GFLOPs", gflops, more_gflops)]
    if summary.gflops_thop is not None:
        cards.append(("GFLOPs by thop", f"{summary.gflops_thop:.2f}", "what Ultralytics prints"))
    cards.append(("strides", ", ".join(map(str, summary.stride)), ""))
    if other is not None:
        found = [layer.status for layer in anatomy.layers]
        text = f"{found.count('changed')} changed, {found.count('new')} new, {len(anatomy.removed)} removed"
        cards.append(("layers", f"{found.count('kept')} of {len(found)} kept", text))
    if anatomy.transfer is not None:
        (arrived, total), (some, whole) = anatomy.transfer.tensors, anatomy.transfer.params
        share = arrived / total if total else 0.0
        cards.append(
            (
                f"weights from {escape(anatomy.transfer.source)}",
                f"{share:.0%} of tensors",
                f"{arrived} of {total}; {some / whole if whole else 0:.0%} of parameters",
            )
        )
    return (
        '<div class="cards">'
        + "".join(
            f'<div class="card"><span>{title}</span><b>{value}</b><span>{more}</span></div>'
            for title, value, more in cards
        )
        + "</div>"
    )


def _legend(anatomy: Anatomy) -> str:
    occurs = {
        "graft": any(layer.graft for layer in anatomy.layers),
        "new": any(layer.status == "new" and not layer.graft for layer in anatomy.layers),
        "changed": any(layer.status == "changed" for layer in anatomy.layers),
        "removed": bool(anatomy.removed),
    }
    items = "".join(
        f'<span><i style="border-color: var(--{name}); background: var(--{name}-fill);'
        f'{" border-style: dotted;" if name == "removed" else ""}"></i>{name}</span>'
        for name, there in occurs.items()
        if there
    )
    return f'<div class="legend">{items}<span>box: output, parameters \u00b7 operations</span></div>'


def _table(anatomy: Anatomy) -> str:
    beside, transfer = anatomy.other is not None, anatomy.transfer is not None
    heads = ["<th class=n>layer</th><th>module</th><th>from</th><th>output</th>"]
    heads += ["<th class=n>parameters</th><th class=n>GFLOPs</th>"]
    if beside:
        heads += ["<th>status</th><th>stands for</th><th class=n>more parameters</th><th class=n>more GFLOPs</th>"]
    heads += ["<th class=n>weights</th>"] if transfer else []
    heads += ["<th>row</th>"]
    rows = [_row(layer, anatomy) for layer in anatomy.layers]
    for old in anatomy.removed:
        lost = f"<td class=n>\u2212{old.params:,}</td><td class=n>\u2212{old.gflops:.3f}</td>"
        rows.append(
            '<tr class="removed"><td></td><td></td><td></td><td></td><td></td><td></td><td class=s>removed</td>'
            f"<td class=w>{old.index} {escape(old.name)}</td>{lost}{'<td></td>' if transfer else ''}"
            f"<td><code>{escape(old.row)}</code></td></tr>"
        )
    return f"<table><thead><tr>{''.join(heads)}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _row(layer: Layer, anatomy: Anatomy) -> str:
    sources = ", ".join("image" if source < 0 else str(source) for source in layer.sources)
    cells = [
        f"<td class=n>{layer.index}</td><td class='m w'>{escape(layer.name)}</td><td class=w>{sources}</td>",
        f"<td class=w>{escape(shape(layer.shape, 3))}</td><td class=n>{layer.params:,}</td>",
        f"<td class=n>{layer.gflops:.3f}</td>",
    ]
    if anatomy.other is not None:
        old = anatomy.other.layers[layer.origin] if layer.origin is not None else None
        params, gflops = layer.params - (old.params if old else 0), layer.gflops - (old.gflops if old else 0.0)
        origin = f"{old.index} {escape(old.name)}" if old else ""
        cells.append(f"<td class=s>{layer.status}</td><td class=w>{origin}</td>")
        cells.append(f"<td class=n>{signed(f'{params:,}', params) if params else ''}</td>")
        cells.append(f"<td class=n>{signed(f'{gflops:.3f}', gflops) if abs(gflops) >= 5e-4 else ''}</td>")
    if anatomy.transfer is not None:
        arrived, total = layer.carried or (0, 0)
        cells.append(f"<td class=n>{f'{arrived}/{total}' if total else ''}</td>")
    kinds = f"{layer.status}{' graft' if layer.graft else ''}"
    row = f"<td><code>{escape(layer.row)}</code></td>"
    return f'<tr class="{kinds}" title="{escape(about(layer, anatomy))}">{"".join(cells)}{row}</tr>'
