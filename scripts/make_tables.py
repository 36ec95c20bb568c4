"""Writes the measured tables into the README files and the catalogue's into docs/losses.md, between their markers.

    python scripts/make_tables.py            rewrite README.md, README.zh-CN.md and docs/losses.md
    python scripts/make_tables.py --check    exit 1 when they are not up to date
    python scripts/make_tables.py --losses   docs/losses.md alone; nothing is measured

Every figure is measured by ``detgraft.show`` when this runs; none is typed in.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("YOLO_OFFLINE", "1")

ROOT = Path(__file__).resolve().parents[1]
MODELS = (
    "yolo11n",
    "yolo11n-convnextv2",
    "yolo11n-repvit",
    "yolo11n-dynamicconv",
    "yolo11n-c3k2-dynamicconv",
    "yolo11n-carafe",
    "rtdetr-l",
    "rtdetr-l-convnextv2",
)
HEADINGS = {
    "README.md": ("model", "parameters", "GFLOPs (FlopCounterMode)", "GFLOPs (thop)", "command"),
    "README.zh-CN.md": ("模型", "参数量", "GFLOPs（FlopCounterMode）", "GFLOPs（thop）", "命令"),
}
LOSSES = re.compile(r"(<!-- table:losses -->\n).*?(<!-- /table:losses -->)", re.DOTALL)
MARKERS = re.compile(r"(<!-- table:systems -->\n).*?(<!-- /table:systems -->)", re.DOTALL)


def rows() -> list[tuple[str, ...]]:
    from detgraft import show
    from detgraft.upstream.release.quiet import quiet

    found = []
    for name in MODELS:
        with quiet():
            cost = show(f"{name}.yaml", imgsz=640, nc=80)
        thop = "-" if cost.gflops_thop is None else f"{cost.gflops_thop:.2f}"
        found.append((name, f"{cost.params:,}", f"{cost.gflops:.3f}", thop, f"`detgraft show {name}`"))
    return found


def table(headings: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(headings)} |", "|---|---:|---:|---:|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in body)]) + "\n"


def loss_table() -> str:
    from detgraft.catalog.losses import losses

    lines = ["| name | loss of | formula | options | paper | code, licence |", "|---|---|---|---|---|---|"]
    for entry in losses:
        names = ", ".join(f"`{name}`" for name in (entry.name, *entry.aliases))
        formula = entry.formula.replace("|", "\\|")
        options = "; ".join(f"`{name}={option.default}` {option.text}" for name, option in entry.options.items())
        source = entry.provenance.source
        code = f"[{source.removeprefix('https://github.com/')}]({source}), {entry.provenance.licence}" if source else ""
        cells = (names, entry.kind, formula, options, entry.provenance.paper, code or "none published")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rewrite(path: Path, markers: re.Pattern[str], content: str, check: bool) -> list[str]:
    """Put a table between its markers; the file's name where it was out of date."""
    before = path.read_text(encoding="utf-8")
    after = markers.sub(lambda found: found[1] + content + found[2], before)
    if after != before and not check:
        path.write_text(after, encoding="utf-8")
    return [path.name] if after != before else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 when a table is out of date")
    parser.add_argument("--losses", action="store_true", help="docs/losses.md alone")
    args = parser.parse_args()
    check = args.check
    stale = rewrite(ROOT / "docs" / "losses.md", LOSSES, loss_table(), check)
    if not args.losses:
        body = rows()
        for name, headings in HEADINGS.items():
            stale += rewrite(ROOT / name, MARKERS, table(headings, body), check)
    print(f"out of date: {', '.join(stale)}" if stale else "up to date")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
