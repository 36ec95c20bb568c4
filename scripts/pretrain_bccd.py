"""Does pretraining without labels help a detector on BCCD? Scratch against FCMAE at 10, 25 and 100 % of the labels.

    python scripts/pretrain_bccd.py BCCD WORK [--seeds 4] [--workers 2] [--epochs 100]

BCCD is a folder with the data set (``../shared/data/bccd``); nothing is written there. In WORK: the three label subsets
(the smaller ones are parts of the larger ones; val and test are whole), one pretrained backbone (from all training
pictures, without labels), three studies, and ``summary.md``. Run it again after an interruption; it goes on.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
from pathlib import Path

import detgraft
from detgraft.datasets.labels import label_file, list_images
from detgraft.study.api import report, run
from detgraft.study.judge.analysis import Analysis

BACKBONE, WIDTH, IMGSZ = "convnextv2_atto", 0.5, 224
EPOCHS = {10: 30, 25: 20, 100: 25}  # the same for both arms
STUDY = """\
# FCMAE on BCCD's training pictures against random weights, {percent} % of the training labels; see
# scripts/pretrain_bccd.py, which wrote this file.
name: pretrain-bccd-{percent}
data: {data}
base: yolo11n+{backbone}(width={width})
variants:
  - name: pretrained
    model: yolo11n+{backbone}(width={width},weights='{weights}')
seeds: {seeds}
train:
  epochs: {epochs}
  imgsz: {imgsz}
  batch: 8
  nbs: 8
  optimizer: AdamW
  lr0: 0.002
  warmup_epochs: 1
  close_mosaic: 3
# Nothing but the variant's own backbone is loaded; all else starts from random weights in both arms.
init: pretrained
weights: none
controls: none
workers: {workers}
out: {out}
"""


def subset(source: Path, target: Path, percent: int) -> Path:
    """Copy a share of the training pictures with their labels, and val and test whole; return the data YAML."""
    images = list_images(source / "images" / "train")
    random.Random(0).shuffle(images)
    chosen = images[: round(len(images) * percent / 100)]
    for split in ("val", "test"):
        chosen += list_images(source / "images" / split)
    for image in chosen:
        for path in (image, label_file(image)):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not copy.exists():
                shutil.copyfile(path, copy)
    shutil.copyfile(source / "data.yaml", target / "data.yaml")
    return target / "data.yaml"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bccd", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--workers", type=int, default=2, help="runs at once")
    parser.add_argument("--epochs", type=int, default=100, help="of the pretraining")
    parser.add_argument("--seeds", type=int, default=4)
    args = parser.parse_args()
    source, work = args.bccd.resolve(), args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    data = {percent: subset(source, work / f"bccd-{percent}", percent) for percent in EPOCHS}
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
    for percent, yaml in data.items():
        file = work / f"study-{percent}.yaml"
        text = STUDY.format(
            percent=percent, data=yaml, backbone=BACKBONE, width=WIDTH, weights=found.weights, epochs=EPOCHS[percent],
            imgsz=IMGSZ, seeds=args.seeds, workers=args.workers, out=work / f"out-{percent}",
        )  # fmt: skip
        if not file.is_file() or file.read_text("utf-8") != text:
            file.write_text(text, "utf-8")
        run(file)
        rows.append(
            _row(percent, len(list_images(work / f"bccd-{percent}" / "images" / "train")), report(file).analysis)
        )
    head = (
        "| labels | pictures | epochs | scratch AP | pretrained AP | difference (95 % interval) | p | verdict |\n"
        "|---|---:|---:|---:|---:|---|---:|---|\n"
    )
    (work / "summary.md").write_text(head + "".join(rows), "utf-8")
    print(head + "".join(rows))
    return 0


def _row(percent: int, pictures: int, found: Analysis) -> str:
    scratch, pretrained = (100 * arm.primary.mean for arm in found.arms)
    c = found.judged[0].comparison
    return (
        f"| {percent} % | {pictures} | {EPOCHS[percent]} | {scratch:.1f} | {pretrained:.1f} "
        f"| {100 * c.difference:+.1f} ({100 * c.low:+.1f} to {100 * c.high:+.1f}) "
        f"| {c.p_holm:.3f} | {c.verdict.value} |\n"
    )


if __name__ == "__main__":
    sys.exit(main())
