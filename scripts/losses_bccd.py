"""Does another box loss help yolo11n on BCCD? The stock loss against four others, six seeds each.

    python scripts/losses_bccd.py BCCD WORK [--seeds 6] [--epochs 12] [--workers 2]

BCCD is a folder with the data set (``../shared/data/bccd``); nothing is written there. In WORK: a copy of the data,
since Ultralytics writes caches beside the labels, the study and its report, and ``summary.md``. The recipe is that of
docs/results/bccd with more epochs: 256 pixels, from random weights. Run it again after an interruption; it goes on.
"""

from __future__ import annotations

import sys

from bccd import FROM_SCRATCH, arguments, percent, subset, verdict, written

from detgraft.study.api import report, run

STUDY = (
    """\
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
"""
    + FROM_SCRATCH
)


def main() -> int:
    parser = arguments(__doc__, seeds=6)
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()
    source, work = args.bccd.resolve(), args.work.resolve()
    text = STUDY.format(
        data=subset(source, work / "bccd"), seeds=args.seeds, epochs=args.epochs, imgsz=256, workers=args.workers,
        out=work / "out",
    )  # fmt: skip
    file = written(work / "study.yaml", text)
    run(file)
    found = report(file).analysis
    lines = [
        "| arm | AP, mean (95 % interval) | sd | difference to stock (95 % interval) | p (Holm) | verdict |",
        "|---|---|---:|---|---:|---|",
    ]
    judged = {entry.comparison.variant: entry.comparison for entry in found.judged}
    for arm in found.arms:
        ap = arm.primary
        row = f"| {arm.name} | {percent(ap.mean, ap.low, ap.high)} | {100 * arm.sd:.1f} | "
        lines.append(row + (verdict(judged[arm.name]) if arm.name in judged else "| | |"))
    (work / "summary.md").write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
