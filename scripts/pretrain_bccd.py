"""Does pretraining without labels help a detector on BCCD? Scratch against FCMAE at 10, 25 and 100 % of the labels.

    python scripts/pretrain_bccd.py BCCD WORK [--seeds 4] [--workers 2] [--epochs 100]

BCCD is a folder with the data set (``../shared/data/bccd``); nothing is written there. In WORK: the three label subsets
(the smaller ones are parts of the larger ones; val and test are whole), one pretrained backbone (from all training
pictures, without labels), three studies, and ``summary.md``. Run it again after an interruption; it goes on.
"""

from __future__ import annotations

import sys

from bccd import RECIPE, arguments, percent, subset, written

import detgraft
from detgraft.datasets.labels import list_images
from detgraft.study.api import report, run
from detgraft.study.judge.analysis import Analysis

BACKBONE, WIDTH, IMGSZ = "convnextv2_atto", 0.5, 224
EPOCHS = {10: 30, 25: 20, 100: 25}  # the same for both arms
STUDY = (
    """\
# FCMAE on BCCD's training pictures against random weights, {percent} % of the training labels; see
# scripts/pretrain_bccd.py, which wrote this file.
name: pretrain-bccd-{percent}
data: {data}
base: yolo11n+{backbone}(width={width})
variants:
  - name: pretrained
    model: yolo11n+{backbone}(width={width},weights='{weights}')
seeds: {seeds}
"""
    + RECIPE
    + """\
# Nothing but the variant's own backbone is loaded; all else starts from random weights in both arms.
init: pretrained
weights: none
controls: none
workers: {workers}
out: {out}
"""
)


def main() -> int:
    parser = arguments(__doc__, seeds=4)
    parser.add_argument("--epochs", type=int, default=100, help="of the pretraining")
    args = parser.parse_args()
    source, work = args.bccd.resolve(), args.work.resolve()
    data = {share: subset(source, work / f"bccd-{share}", share) for share in EPOCHS}
    folder = work / "encoder"
    found = detgraft.pretrain(
        BACKBONE,
        data[100],
        width=WIDTH,
        epochs=args.epochs,
        imgsz=IMGSZ,
        batch=32,
        lr=6e-4,  # the rule's 1.5e-4 per 256 pictures is for 1.3 million of them; here it would hardly move
        device="cpu",
        save_dir=folder,
        save_every=10,
        resume=(folder / "last.pt").is_file(),
    )
    rows = []
    for share, yaml in data.items():
        text = STUDY.format(
            percent=share, data=yaml, backbone=BACKBONE, width=WIDTH, weights=found.weights, epochs=EPOCHS[share],
            imgsz=IMGSZ, seeds=args.seeds, workers=args.workers, out=work / f"out-{share}",
        )  # fmt: skip
        file = written(work / f"study-{share}.yaml", text)
        run(file)
        rows.append(_row(share, len(list_images(yaml.parent / "images" / "train")), report(file).analysis))
    head = (
        "| labels | pictures | epochs | scratch AP | pretrained AP | difference (95 % interval) | p | verdict |\n"
        "|---|---:|---:|---:|---:|---|---:|---|\n"
    )
    (work / "summary.md").write_text(head + "".join(rows), "utf-8")
    print(head + "".join(rows))
    return 0


def _row(share: int, pictures: int, found: Analysis) -> str:
    scratch, pretrained = (100 * arm.primary.mean for arm in found.arms)
    c = found.judged[0].comparison
    return (
        f"| {share} % | {pictures} | {EPOCHS[share]} | {scratch:.1f} | {pretrained:.1f} "
        f"| {percent(c.difference, c.low, c.high, '+')} "
        f"| {c.p_holm:.3f} | {c.verdict.value} |\n"
    )


if __name__ == "__main__":
    sys.exit(main())
