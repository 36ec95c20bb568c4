"""The table of a model's layers, for spreadsheets and papers."""

from __future__ import annotations

import re
from typing import Any

from detgraft.base.files import csv_text
from detgraft.drawing.anatomy import Anatomy
from detgraft.drawing.words import shape

HEADINGS = ("layer", "from", "module", "class", "output shape", "parameters", "GFLOPs", "graft", "row", "where")
BESIDE = ("status", "other layer", "other module", "more parameters", "more GFLOPs")
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\u00d7": r"$\times$",
}


def csv(anatomy: Anatomy) -> str:
    """Return one line for every layer, and one for every removed layer of the model beside it."""
    headings = [*HEADINGS, *(BESIDE if anatomy.other is not None else ()), *_weights_headings(anatomy)]
    return csv_text([headings, *_lines(anatomy)])


def _weights_headings(anatomy: Anatomy) -> tuple[str, ...]:
    return ("tensors carried", "tensors") if anatomy.transfer is not None else ()


def _lines(anatomy: Anatomy) -> list[list[Any]]:
    lines = []
    for layer in anatomy.layers:
        sources = " ".join(map(str, layer.sources))
        line: list[Any] = [
            layer.index,
            sources,
            layer.name,
            layer.kind,
            shape(layer.shape, 8).replace("\u00d7", "x"),
            layer.params,
            round(layer.gflops, 6),
            "yes" if layer.graft else "no",
            layer.row,
            layer.where,
        ]
        if anatomy.other is not None:
            old = anatomy.other.layers[layer.origin] if layer.origin is not None else None
            line += [
                layer.status,
                "" if old is None else old.index,
                "" if old is None else old.name,
                layer.params - (old.params if old else 0),
                round(layer.gflops - (old.gflops if old else 0.0), 6),
            ]
        if anatomy.transfer is not None:
            line += list(layer.carried or ("", ""))
        lines.append(line)
    for old in anatomy.removed:
        line = ["", "", "", "", "", "", "", "", "", "", "removed", old.index, old.name, -old.params]
        lines.append([*line, round(-old.gflops, 6), *(("", "") if anatomy.transfer is not None else ())])
    return lines


def latex(anatomy: Anatomy) -> str:
    """Return a table for LaTeX with booktabs and longtable: layers, shapes, costs, and what changed."""
    beside = anatomy.other is not None
    columns = "rllrr" + ("ll" if beside else "")
    heads = ["", "module", "output", "params", "GFLOPs", *(["status", "stock layer"] if beside else [])]
    height, width = anatomy.summary.imgsz
    lines = [
        "% needs \\usepackage{booktabs,longtable}",
        "\\begingroup\\footnotesize\\setlength{\\tabcolsep}{2pt}",
        f"\\begin{{longtable}}{{{columns}}}",
        f"\\caption{{Layers of {tex(anatomy.name)} at ${height}\\times{width}$"
        + (f", beside {tex(anatomy.other.name)}" if anatomy.other is not None else "")
        + ".}\\\\",
        "\\toprule",
        " & ".join(heads) + r" \\",
        "\\midrule\\endhead",
    ]
    for layer in anatomy.layers:
        name = tex(layer.name)
        cells = [str(layer.index), f"\\textbf{{{name}}}" if layer.graft else name, tex(_outputs(layer.shape))]
        cells += [f"{layer.params:,}", f"{layer.gflops:.3f}"]
        if anatomy.other is not None:
            old = anatomy.other.layers[layer.origin] if layer.origin is not None else None
            cells += [layer.status, tex(f"{old.index} {old.name}") if old else ""]
        lines.append(" & ".join(cells) + r" \\")
    lines += [f" & & & & & removed & {tex(f'{old.index} {old.name}')} \\\\" for old in anatomy.removed]
    summary = anatomy.summary
    totals = [("total", summary)]
    if anatomy.other is not None:
        totals.append((f"total of {tex(anatomy.other.name)}", anatomy.other.summary))
    ends = [
        f" & {name} & & {whole.params:,} & {whole.gflops:.3f}{' & &' if beside else ''} \\\\" for name, whole in totals
    ]
    return "\n".join([*lines, "\\midrule", *ends, "\\bottomrule", "\\end{longtable}", "\\endgroup", ""])


def _outputs(value: list[Any]) -> str:
    """The first output's shape and how many more there are, in as little width as a page of a paper has."""
    first, _, more = shape(value, 1).partition(" and ")
    return f"{first}, +{more.partition(' ')[0]}" if more else first


def tex(text: str) -> str:
    """Write a text so that LaTeX prints it."""
    return re.sub(r"[\\&%$#_{}~^\u00d7]", lambda found: _LATEX[found.group()], text)
