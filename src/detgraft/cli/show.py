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
from detgraft.cli.tables import Column, print_table
from detgraft.errors import ArgumentError
from detgraft.measure.cost import Summary, show
from detgraft.measure.layers import Shape
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
    # Ultralytics logs to the standard output, where a program expects nothing but the answer.
    with quiet() if as_json else contextlib.nullcontext():
        summaries = [show(name, **options) for name in names]
    if as_json:
        found = [summary.to_dict() for summary in summaries]
        print(json.dumps(found[0] if beside is None else found, ensure_ascii=False))
        return
    for summary in summaries:
        print_summary(summary)


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
            layer.module.rpartition(".")[2],
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
        console.print(f"{title:<29}{value}", highlight=False, soft_wrap=True)
    for note in summary.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)


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
