"""What do real ImageNet weights buy a detector on BCCD? One backbone with and without them, and stock beside it.

    python scripts/weights_bccd.py BCCD WEIGHTS WORK [--seeds 6] [--workers 2] [--only 25|100]

BCCD is a folder with the data set (``../shared/data/bccd``), WEIGHTS the file ``tf_efficientnet_lite0.safetensors``
(``../shared/weights``); nothing is written there. In WORK: a quarter of the labels and all of them (val and test are
whole in both), a study for each, and ``summary.md``. Run it again after an interruption; it goes on.

Four arms: yolo11n with the backbone from random weights (the base), with ImageNet weights and the normalisation that
they were trained with, with the weights but fed 0 to 1 as Ultralytics does (``input=unit``), and stock yolo11n from
random weights.
"""

from __future__ import annotations

import sys

from bccd import RECIPE, arguments, subset, verdict, written

from detgraft.datasets.labels import list_images
from detgraft.study.api import report, run
from detgraft.study.judge.analysis import Analysis

BACKBONE, IMGSZ = "timm/tf_efficientnet_lite0", 256
EPOCHS = {100: 10, 25: 20}  # the same for all arms of a study
STUDY = (
    """\
# ImageNet weights on BCCD, {percent} % of the training labels; see scripts/weights_bccd.py, which wrote this file.
name: weights-bccd-{percent}
data: {data}
base: yolo11n+{backbone}
variants:
  - name: imagenet
    model: yolo11n+{backbone}(weights='{weights}')
  - name: imagenet, fed 0 to 1
    model: yolo11n+{backbone}(weights='{weights}',input=unit)
  - name: stock yolo11n
    model: yolo11n
seeds: {seeds}
"""
    + RECIPE
    + """\
# The weights in the expressions are all that is loaded; everything else starts from random weights in every arm.
init: pretrained
weights: none
controls: none
workers: {workers}
out: {out}
"""
)


def main() -> int:
    parser = arguments(__doc__, seeds=6, between=["weights"])
    parser.add_argument("--only", type=int, choices=sorted(EPOCHS), help="one share of the labels")
    args = parser.parse_args()
    source, work = args.bccd.resolve(), args.work.resolve()
    rows = []
    for percent in [args.only] if args.only else EPOCHS:
        data = subset(source, work / f"bccd-{percent}", percent)
        text = STUDY.format(
            percent=percent, data=data, backbone=BACKBONE, weights=args.weights.resolve(), epochs=EPOCHS[percent],
            imgsz=IMGSZ, seeds=args.seeds, workers=args.workers, out=work / f"out-{percent}",
        )  # fmt: skip
        file = written(work / f"study-{percent}.yaml", text)
        run(file)
        pictures = len(list_images(data.parent / "images" / "train"))
        rows += _rows(percent, pictures, report(file).analysis)
    head = (
        "| labels | pictures | epochs | arm | AP | to random weights (95 % interval) | p (Holm) | verdict |\n"
        "|---|---:|---:|---|---:|---|---:|---|\n"
    )
    (work / "summary.md").write_text(head + "".join(rows), "utf-8")
    print(head + "".join(rows))
    return 0


def _rows(percent: int, pictures: int, found: Analysis) -> list[str]:
    begin = f"| {percent} % | {pictures} | {EPOCHS[percent]} "
    rows = [f"{begin}| random weights | {100 * found.arms[0].primary.mean:.1f} | | | |\n"]
    for arm, judged in zip(found.arms[1:], found.judged, strict=True):
        row = f"{begin}| {arm.name} | {100 * arm.primary.mean:.1f} | {verdict(judged.comparison)}"
        rows.append(f"{row}\n")
    return rows


if __name__ == "__main__":
    sys.exit(main())
