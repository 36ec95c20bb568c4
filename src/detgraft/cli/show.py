"""``detgraft show``: a model's layers and what each one costs."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from detgraft.base.values import read_size
from detgraft.catalog.plugins import load_plugins
from detgraft.cli.arguments import flag, parse_pairs
from detgraft.cli.keys import FILES, check_keys
from detgraft.cli.tables import Column, print_pieces, print_prose, print_table
from detgraft.errors import ArgumentError
from detgraft.measure.cost import Summary, show
from detgraft.measure.layers import Shape, short_name
from detgraft.plan.typed import as_typed


def command(model: str, words: Sequence[str], *, as_json: bool, as_yaml: bool = False) -> None:
    """Print the cost of a model, or the YAML that builds it, or write its drawing.

    Raises:
        DetgraftError: Wrong arguments, or the model cannot be built.
    """
    beside, rest = _beside(words)
    pairs = parse_pairs(rest, ("trust",))
    files = {key[2:]: pairs.pop(key[2:]) for key in FILES["show"] if key[2:] in pairs}
    check_keys("show", pairs)
    trust = flag(pairs, "trust")
    if as_json + as_yaml + bool(files) > 1:
        raise ArgumentError("--json, --yaml and a drawing are different answers; ask for one")
    from detgraft.upstream.model.models import describe
    from detgraft.upstream.release.quiet import quiet

    load_plugins(str(pairs.get("plugins", "")))
    if as_yaml:
        print(describe(model, pairs.get("nc"), trust=trust), end="")
        return
    options = {"imgsz": read_size(pairs.get("imgsz")), "nc": pairs.get("nc"), "ch": pairs.get("ch", 3), "trust": trust}
    if files:
        _draw(model, beside, files, {**options, "transfer": pairs.get("transfer")})
        return
    names = [model] if beside is None else [model, beside]
    if beside is not None and not as_json:
        _print_beside(model, beside, options)
        return
    # Ultralytics logs to the standard output, where a program expects nothing but the answer.
    with quiet() if as_json else contextlib.nullcontext():
        summaries = [show(name, **options) for name in names]
    if as_json:
        found = [summary.to_dict() for summary in summaries]
        print(json.dumps(found[0] if beside is None else found, ensure_ascii=False))
        return
    print_summary(summaries[0])


def _beside(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Take off the second model, where one is named."""
    loose = [word for word in words if "=" not in word.partition("(")[0] and word != "trust"]
    if len(loose) > 1:
        raise ArgumentError(f"show takes one model, or two to compare; found a third, '{loose[1]}'")
    return (loose[0] if loose else None), [word for word in words if word not in loose]


def _draw(model: str, beside: str | None, files: dict[str, Any], options: dict[str, Any]) -> None:
    """Write the drawings that are asked for and print where they lie."""
    from detgraft.drawing.api import ENDINGS, draw

    targets = {form: _target(form, name, ENDINGS[form], model, beside) for form, name in files.items()}
    drawing = draw(model, beside, **options)
    for form, path in targets.items():
        print(drawing.write(form, path))


def _target(form: str, name: Any, ending: str, model: str, beside: str | None) -> Path:
    """The file that a drawing goes to: as named, or called after the model, here."""
    if name is True:
        text = Path(model).name.removesuffix(".yaml").removesuffix(".pt") + (
            f"-{Path(beside).name.removesuffix('.yaml').removesuffix('.pt')}" if beside else ""
        )
        return Path(re.sub(r"[^\w.+\-]+", "-", as_typed(text)).strip("-")[:120] + ending)
    path = Path(str(name))
    if path.is_dir() or path.suffix.lower() not in FILES["show"][f"--{form}"]:
        raise ArgumentError(f"--{form} takes a file's name such as model{ending}, found '{name}'")
    return path


def print_summary(summary: Summary) -> None:
    """Print a summary as a table with totals."""
    height, width = summary.imgsz
    columns = [Column("layer", right=True), Column("module"), Column("from", right=True), Column("output shape")]
    columns += [Column("parameters", right=True), Column("GFLOPs", right=True)]
    rows = [
        (
            str(layer.index),
            short_name(layer.module),
            ",".join(map(str, layer.from_)) if isinstance(layer.from_, list) else str(layer.from_),
            shape_text(layer.shape).replace(", ", "\n"),
            f"{layer.params:,}",
            f"{layer.gflops:.3f}",
        )
        for layer in summary.layers
    ]
    console = Console()
    print_table(console, f"{summary.model} at {height}x{width}", columns, rows)
    thop = "none" if summary.gflops_thop is None else f"{summary.gflops_thop:.2f}"
    if summary.gflops_thop is not None and summary.gflops_thop < 0.98 * summary.gflops:
        thop += "  (does not see functional convolutions)"
    for title, value in (
        ("parameters", f"{summary.params:,}"),
        ("GFLOPs (FlopCounterMode)", f"{summary.gflops:.3f}"),
        ("GFLOPs (thop, Ultralytics')", thop),
        ("strides", ", ".join(map(str, summary.stride))),
    ):
        line = f"{title:<29}{value}"
        if len(line) <= console.width:
            console.print(line, highlight=False, markup=False)
        else:
            print_prose(console, f"{title} {value}")
    for note in summary.notes:
        print_prose(console, note)


def _print_beside(model: str, beside: str, options: dict[str, Any]) -> None:
    """Print two models line by line, what each layer of the first costs more, and both totals."""
    from detgraft.drawing.anatomy import Layer, dissect
    from detgraft.drawing.layout import lines_of
    from detgraft.drawing.words import signed

    anatomy = dissect(model, beside, **options)
    other = anatomy.other
    if other is None:  # a model that is named is always there
        return
    columns = [Column("layer"), Column("stands for"), Column("status"), Column("output shape")]
    columns += [Column("parameters", right=True), Column("more", right=True)]
    columns += [Column("GFLOPs", right=True), Column("more", right=True)]

    def named(layer: Layer | None) -> str:
        return f"{layer.index} {layer.name}" if layer is not None else ""

    def more(number: float, text: str) -> str:
        return signed(text, number) if number else "0"

    by_index = {layer.index: layer for layer in other.layers}
    rows: list[tuple[str, ...]] = []
    for one, old in lines_of(anatomy):
        if one is not None:
            stock = by_index.get(one.origin) if one.origin is not None else None
            params = one.params - (stock.params if stock else 0)
            gflops = round(one.gflops - (stock.gflops if stock else 0.0), 3)
            figures = (
                f"{one.params:,}",
                more(params, f"{params:,}"),
                f"{one.gflops:.3f}",
                more(gflops, f"{gflops:.3f}"),
            )
            rows.append((named(one), named(stock), one.status, shape_text(one.shape).replace(", ", "\n"), *figures))
        if old is not None and (one is None or one.origin != old.index) and old in anatomy.removed:
            figures = ("", f"\u2212{old.params:,}", "", f"\u2212{old.gflops:.3f}")
            rows.append(("", named(old), "removed", "", *figures))
    height, width = anatomy.summary.imgsz
    console = Console()
    print_table(console, f"{model} beside {beside} at {height}x{width}", columns, rows)
    for name, summary in ((model, anatomy.summary), (beside, other.summary)):
        strides = "strides " + ", ".join(map(str, summary.stride))
        print_prose(console, f"{name}:")
        print_pieces(console, [f"{summary.params:,} parameters", f"{summary.gflops:.3f} GFLOPs", strides])
        for note in summary.notes:
            print_prose(console, note, "  ")
    if anatomy.transfer is not None:
        (tensors, whole), (some, params) = anatomy.transfer.tensors, anatomy.transfer.params
        share = some / params if params else 0.0
        text = f"A transfer from {beside} carries {tensors} of {whole} tensors, {share:.0%} of the parameters."
        print_prose(console, text)


def shape_text(shape: Shape, most: int = 4) -> str:
    """Write a shape as 1x64x80x80; of nested outputs the first ``most``."""
    if all(isinstance(size, int) for size in shape):
        return "x".join(map(str, shape)) if shape else "-"
    flat = _flatten(shape)
    more = f" and {len(flat) - most} more" if len(flat) > most else ""
    return ", ".join("x".join(map(str, entry)) for entry in flat[:most]) + more


def _flatten(shape: Shape) -> list[list[int]]:
    if all(isinstance(size, int) for size in shape):
        return [shape] if shape else []
    return [flat for entry in shape for flat in _flatten(entry)]
