"""Which of eight shells, necks and attentions helps yolo11n on BCCD? A screen with few seeds, then fresh ones.

    python scripts/screen_bccd.py BCCD WORK [--seeds 6] [--epochs 12] [--short 6] [--workers 2]

BCCD is a folder with the data set (``../shared/data/bccd``); nothing is written there. In WORK: a copy of the data, the
screen with its report in ``out/confirm``, and ``summary.md``. Runs of the screen have ``--short`` epochs and two seeds;
the two best variants are confirmed with ``--seeds`` fresh ones. Run it again after an interruption; it goes on.
"""

from __future__ import annotations

import sys

from bccd import FROM_SCRATCH, arguments, subset, verdict, written

from detgraft.study.api import report
from detgraft.study.design.spec import read_spec
from detgraft.study.judge.screening import plan_of
from detgraft.study.screen import CONFIRMATION, screen

VARIANTS = ("c3k2(faster)", "c3k2(starblock)", "c2psa(ema)", "bifpn", "slimneck", "ema", "mlca", "carafe")
KEEP = 2
STUDY = (
    """\
# Eight grafts on BCCD, yolo11n, for `detgraft study screen`; see scripts/screen_bccd.py, which wrote this file.
name: screen-bccd
data: {data}
base: yolo11n
variants:
{variants}
seeds: {seeds}
"""
    + FROM_SCRATCH
)


def main() -> int:
    parser = arguments(__doc__, seeds=6)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--short", type=int, default=6, help="epochs of a run of the screen")
    args = parser.parse_args()
    source, work = args.bccd.resolve(), args.work.resolve()
    text = STUDY.format(
        data=subset(source, work / "bccd"), variants="".join(f"  - {name}\n" for name in VARIANTS).rstrip(),
        seeds=args.seeds, epochs=args.epochs, imgsz=256, workers=args.workers, out=work / "out",
    )  # fmt: skip
    file = written(work / "study.yaml", text)
    least = plan_of(len(VARIANTS), args.seeds, KEEP, args.short / args.epochs)
    budget = least.runs * 2 - (KEEP + 1) * args.seeds  # the rounds twice: two seeds for each variant in the first
    found = screen(read_spec(file), budget=budget, keep=KEEP, short=args.short)
    lines = ["| variant | difference to stock (95 % interval) | p (Holm) | verdict |", "|---|---|---:|---|"]
    for judged in report(found.folder / CONFIRMATION).analysis.judged:
        lines.append(f"| {judged.comparison.variant} | {verdict(judged.comparison)}")
    (work / "summary.md").write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
