"""``detgraft show``: a model's layers and what each one costs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from detgraft.catalog.plugins import load_plugins
from detgraft.cli.arguments import check_keys, image_size, parse_pairs
from detgraft.errors import ArgumentError
from detgraft.measure.cost import Summary, show
from detgraft.measure.layers import Shape


def command(model: str, words: Sequence[str], *, as_json: bool, as_yaml: bool = False) -> None:
    """Print the cost of a model, or the YAML that builds it.

    Raises:
        DetgraftError: Wrong arguments, or the model cannot be built.
    """
    pairs = parse_pairs(words, ("trust",))
    check_keys(pairs, ("imgsz", "nc", "ch", "plugins", "trust"))
    if as_json and as_yaml:
        raise ArgumentError("--json and --yaml are two answers; ask for one")
    from detgraft.upstream.model.models import describe
    from detgraft.upstream.release.quiet import quiet

    load_plugins(str(pairs.get("plugins", "")))
    if as_yaml:
        print(describe(model, pairs.get("nc"), trust=pairs.get("trust") is True), end="")
        return
    # Ultralytics logs to the standard output, where a program expects nothing but the answer.
    with quiet() if as_json else contextlib.nullcontext():
        summary = show(
            model,
            imgsz=image_size(pairs.get("imgsz")),
            nc=pairs.get("nc"),
            ch=pairs.get("ch", 3),
            trust=pairs.get("trust") is True,
        )
    if as_json:
        print(json.dumps(summary.to_dict(), ensure_ascii=False))
    else:
        print_summary(summary)


def print_summary(summary: Summary) -> None:
    """Print a summary as a table with totals."""
    height, width = summary.imgsz
    table = Table(title=f"{summary.model} at {height}x{width}")
    table.add_column("layer", justify="right")
    table.add_column("from", justify="right")
    table.add_column("module", overflow="fold")
    table.add_column("output shape", overflow="fold")
    table.add_column("parameters", justify="right")
    table.add_column("GFLOPs", justify="right")
    for layer in summary.layers:
        table.add_row(
            str(layer.index),
            str(layer.from_),
            layer.module.rpartition(".")[2],
            shape_text(layer.shape),
            f"{layer.params:,}",
            f"{layer.gflops:.3f}",
        )
    console = Console()
    console.print(table)
    thop = "none" if summary.gflops_thop is None else f"{summary.gflops_thop:.2f}"
    console.print(f"parameters                   {summary.params:,}", highlight=False)
    console.print(f"GFLOPs (FlopCounterMode)     {summary.gflops:.3f}", highlight=False)
    console.print(f"GFLOPs (thop, Ultralytics')  {thop}  (does not see functional convolutions)", highlight=False)
    console.print(f"strides                      {', '.join(map(str, summary.stride))}", highlight=False)
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
