"""Does another box loss help yolo11n on BCCD? The stock loss against four others, six seeds each.

    python scripts/losses_bccd.py BCCD WORK [--seeds 6] [--epochs 12] [--workers 2]

BCCD is a folder with the data set (``../shared/data/bccd``); nothing is written there. In WORK: a copy of the data,
since Ultralytics writes caches beside the labels, the study and its report, and ``summary.md``. The recipe is that of
docs/results/bccd with more epochs: 256 pixels, from random weights. Run it again after an interruption; it goes on.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from detgraft.study.api import report, run

STUDY = """\
# Box losses on BCCD, yolo11n; see scripts/losses_bccd.py, which wrote this file.
name: losses-bccd
data: {data}
base: yolo11n
variants:
  - wiou
  - mpdiou
  - ciou(inner=0.75)
  - nwd
seeds: {seeds}
train:
  epochs: {epochs}
  imgsz: 256
  batch: 8
  nbs: 8
  optimizer: AdamW
  lr0: 0.002
  warmup_epochs: 1
  close_mosaic: 3
  amp: false  # the same arithmetic on a GPU as on a processor
init: scratch
controls: none
workers: {workers}
out: {out}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bccd", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2, help="runs at once")
    args = parser.parse_args()
    source, work = args.bccd.resolve(), args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    data = work / "bccd"
    if not (data / "data.yaml").is_file():
        part = work / "bccd.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part)
        part.rename(data)
    file = work / "study.yaml"
    text = STUDY.format(
        data=data / "data.yaml", seeds=args.seeds, epochs=args.epochs, workers=args.workers, out=work / "out"
    )
    if not file.is_file() or file.read_text("utf-8") != text:
        file.write_text(text, "utf-8")
    run(file)
    found = report(file).analysis
    lines = [
        "| arm | AP, mean (95 % interval) | sd | difference to stock (95 % interval) | p (Holm) | verdict |",
        "|---|---|---:|---|---:|---|",
    ]
    judged = {entry.comparison.variant: entry.comparison for entry in found.judged}
    for arm in found.arms:
        ap = arm.primary
        row = f"| {arm.name} | {100 * ap.mean:.1f} ({100 * ap.low:.1f} to {100 * ap.high:.1f}) | {100 * arm.sd:.1f} |"
        c = judged.get(arm.name)
        if c is None:
            lines.append(f"{row} | | |")
            continue
        difference = f"{100 * c.difference:+.1f} ({100 * c.low:+.1f} to {100 * c.high:+.1f})"
        lines.append(f"{row} {difference} | {c.p_holm:.3f} | {c.verdict.value} |")
    (work / "summary.md").write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
