"""Writes docs/costs.md: what every graft costs in a whole model, ``python scripts/make_costs.py [--store FILE]``.

Parameters and operations are those of `detgraft show` at 640 pixels. Every figure is kept in a JSON file as soon as it
is known, so the script goes on where it was stopped. Latency is left out: it needs an idle machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

for name, value in (("YOLO_OFFLINE", "1"), ("YOLO_AUTOINSTALL", "0"), ("HF_HUB_OFFLINE", "1")):
    os.environ.setdefault(name, value)

import torch  # noqa: E402
import ultralytics  # noqa: E402
from ultralytics.utils import LOGGER  # noqa: E402

from detgraft import __version__  # noqa: E402
from detgraft.catalog.parameters import PARAMETERS  # noqa: E402
from detgraft.catalog.registry import catalogue  # noqa: E402
from detgraft.catalog.shells import goes_inside  # noqa: E402
from detgraft.catalog.spec import Graft  # noqa: E402
from detgraft.errors import DetgraftError  # noqa: E402
from detgraft.measure.layers import layers_of  # noqa: E402
from detgraft.upstream.model.models import open_model  # noqa: E402

PAGE = Path(__file__).resolve().parents[1] / "docs" / "costs.md"
SIDE = 640
BASE = "yolo11n"
BASES = ("yolov8n", "yolo11n", "yolo26n", "rtdetr-l")
"""Of the tables of necks, levels and refiners."""

LEVELLED = "yolov8n"
"""Of the table of necks at one level more."""

SHELLS = ("c3k2", "c2psa")
"""The shells of the base, with every block inside."""

OTHER_SHELLS = {
    "yolov8n": "c2f",
    "yolo12n": "a2c2f",
    "yolov5n": "c3",
    "yolov10n": "c2fcib",
    "yolov9t": "elan",
}
"""A base for each of the other shells, with some blocks inside: one for each way of standing there."""

SOME = ("FasterBlock", "StarBlock", "SE", "EMA", "RFAConv", "WTConv")
LARGEST = 16_000_000
"""Parameters of the largest backbone that is shown."""

Cost = tuple[int, float] | str
"""Parameters and GFLOPs, or why the model cannot be had."""


def own() -> list[Graft]:
    """The entries of detgraft itself; plug-ins of this machine are left out."""
    return [entry for entry in catalogue if entry.origin == "detgraft"]


def inner() -> list[str]:
    """The blocks whose rule lets them stand inside a shell."""
    return [entry.name for entry in own() if goes_inside(entry)]


def of_site(site: str) -> list[str]:
    """The names of structural terms."""
    return [entry.name for entry in own() if entry.channels == "structure" and entry.site == site]


def leaves() -> list[str]:
    """The blocks with a place of their own in the base, as terms of an expression."""
    rules = ("pyramid", "structure", "refine")
    return [entry.name for entry in own() if entry.channels not in rules and entry.site]


def backbones() -> list[str]:
    """The backbones up to the largest one shown."""
    return [entry.name for entry in own() if entry.channels == "pyramid" and PARAMETERS[entry.name] <= LARGEST]


def cost(expression: str) -> Cost:
    """Return what a model costs."""
    try:
        model = open_model(expression)
        _, gflops = layers_of(model, (1, 3, SIDE, SIDE))
    except DetgraftError as error:
        return str(error)
    return sum(p.numel() for p in model.parameters()), round(gflops, 4)


def necks() -> list[str]:
    """The necks of the catalogue."""
    return [name for name in of_site("neck") if name != "neck"]


def terms() -> Mapping[str, list[str]]:
    """The terms of the tables with four bases, by their heading."""
    return {
        "Necks": necks(),
        "Levels": ["p2", "p6", "p2+p6"],
        "Before the head": [entry.name.lower() for entry in own() if entry.channels == "refine"],
    }


def expressions() -> list[str]:
    """Every model of the page, once."""
    found = [*BASES, *OTHER_SHELLS]
    found += [f"{BASE}+{shell}({block})" for shell in SHELLS for block in inner()]
    found += [f"{base}+{shell}({block})" for base, shell in OTHER_SHELLS.items() for block in SOME]
    found += [f"{base}+{term}" for group in terms().values() for term in group for base in BASES]
    found += [f"{LEVELLED}+p2+{name}" for name in necks()]
    found += [f"{BASE}+{name}" for name in (*leaves(), *backbones())]
    return list(dict.fromkeys(found))


def cells(found: Cost, stock: Cost) -> str:
    """Two cells: parameters and GFLOPs, each with the difference to stock."""
    if isinstance(found, str) or isinstance(stock, str):
        return " - | - |"
    parts = [
        f"{found[0] / 1e6:.2f} M ({_difference(found[0], stock[0])})",
        f"{found[1]:.1f} ({_difference(*_ops(found, stock))})",
    ]
    return "".join(f" {part} |" for part in parts)


def _ops(found: tuple[int, float], stock: tuple[int, float]) -> tuple[float, float]:
    return found[1], stock[1]


def _difference(found: float, stock: float) -> str:
    return f"{100 * (found / stock - 1):+.1f} %".replace("+0.0 %", "0.0 %").replace("-0.0 %", "0.0 %")


def grouped(known: Mapping[str, Cost], first: str, rows: Iterable[str], columns: Mapping[str, str]) -> list[str]:
    """A table: a row per name, two columns per model.

    Args:
        known: The costs by expression.
        first: Heading of the first column.
        rows: The names.
        columns: The expressions, with ``{}`` for the name, by their headings; the stock model stands before ``+``.
    """
    lines = [f"| {first} |" + "".join(f" {heading}: parameters | GFLOPs |" for heading in columns)]
    lines.append("|---|" + "---:|---:|" * len(columns))
    stock = {heading: known[text.partition("+")[0]] for heading, text in columns.items()}
    lines.append("| stock |" + "".join(cells(found, found).replace(" (0.0 %)", "") for found in stock.values()))
    for name in rows:
        found = {heading: known[text.format(name)] for heading, text in columns.items()}
        if not all(isinstance(one, str) for one in found.values()):
            lines.append(f"| `{name}` |" + "".join(cells(one, stock[heading]) for heading, one in found.items()))
    return lines


def page(known: Mapping[str, Cost]) -> str:
    """The document."""
    one = {BASE: f"{BASE}+{{}}"}
    parts = [
        "# What grafts cost",
        "",
        "Generated by `python scripts/make_costs.py`; do not edit. Parameters and GFLOPs (FlopCounterMode, a multiply "
        f"and an add are two) of the whole model at {SIDE}x{SIDE}, as `detgraft show` counts them, with the difference "
        f"to stock. detgraft {__version__}, ultralytics {ultralytics.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}. No latency, which depends on the machine, and no accuracy, which a study "
        "measures.",
        "",
        "## Shells and the block inside",
        "",
        f"`{BASE}+c3k2(BLOCK)` and `{BASE}+c2psa(BLOCK)`, each block at its default place ([shells](shells.md)). A "
        "dash: the block is refused there.",
        "",
        *grouped(known, "block", inner(), {shell: f"{BASE}+{shell}({{}})" for shell in SHELLS}),
        "",
        "Other shells, with a few blocks inside:",
        "",
        *grouped(known, "block", SOME, {f"{b}+{s}": f"{b}+{s}({{}})" for b, s in OTHER_SHELLS.items()}),
        "",
    ]
    for heading, group in terms().items():
        parts += [f"## {heading}", "", *grouped(known, "term", group, {b: f"{b}+{{}}" for b in BASES}), ""]
    parts += ["## Necks with a level P2", ""]
    parts += [*grouped(known, "term", [f"p2+{name}" for name in necks()], {LEVELLED: f"{LEVELLED}+{{}}"}), ""]
    parts += ["## Blocks at their own place", "", *grouped(known, "term", leaves(), one), ""]
    parts += [
        "## Backbones",
        "",
        f"At width 1, up to {LARGEST / 1e6:.0f} M parameters.",
        "",
        *grouped(known, "term", backbones(), one),
        "",
    ]
    return "\n".join(parts)


def main() -> None:
    """Work out what is not known yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    versions = f"{ultralytics.__version__}-{torch.__version__}"
    default = Path(tempfile.gettempdir()) / f"detgraft-costs-{versions}.json"
    parser.add_argument("--store", type=Path, default=default, help="figures known so far (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=PAGE, help="where the page goes")
    words = parser.parse_args()
    LOGGER.setLevel(logging.ERROR)
    stored = json.loads(words.store.read_text("utf-8")) if words.store.is_file() else {}
    known: dict[str, Cost] = {key: one if isinstance(one, str) else tuple(one) for key, one in stored.items()}
    wanted = expressions()
    for number, expression in enumerate(wanted, 1):
        if expression not in known:
            known[expression] = cost(expression)
            words.store.write_text(json.dumps(known), "utf-8")
            print(f"{number}/{len(wanted)} {expression}: {known[expression]}", flush=True)
    words.out.write_text(page(known), encoding="utf-8")
    print(f"wrote {words.out}")


if __name__ == "__main__":
    main()
