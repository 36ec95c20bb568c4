"""Writes the measured tables into the README files, between their markers.

    python scripts/make_tables.py            rewrite README.md and README.zh-CN.md
    python scripts/make_tables.py --check    exit 1 when they are not up to date

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 when a table is out of date")
    check = parser.parse_args().check
    body = rows()
    stale = []
    for name, headings in HEADINGS.items():
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        after = MARKERS.sub(lambda found, h=headings: found[1] + table(h, body) + found[2], before)
        if after != before:
            stale.append(name)
            if not check:
                path.write_text(after, encoding="utf-8")
    print(f"out of date: {', '.join(stale)}" if stale else "up to date")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
