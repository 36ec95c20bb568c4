"""Learns a backbone from pictures without labels (FCMAE), then trains a detector with it.

python examples/pretrain_then_train.py --pictures pictures/ --data data.yaml
"""

from __future__ import annotations

import argparse

from detgraft import YOLO, pretrain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", required=True, help="a folder with pictures; labels are not looked at")
    parser.add_argument("--data", required=True, help="the labelled data set")
    parser.add_argument("--backbone", default="convnextv2_atto")
    parser.add_argument("--width", type=float, default=1.0, help="factor on the backbone's channels")
    parser.add_argument("--pretrain-epochs", type=int, default=200)
    parser.add_argument("--pretrain-imgsz", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--project", default="runs/pretrained", help="folder for both runs")
    options = parser.parse_args()

    learned = pretrain(
        options.backbone,
        options.pictures,
        epochs=options.pretrain_epochs,
        imgsz=options.pretrain_imgsz,
        batch=options.batch,
        width=options.width,
        project=options.project,
    )
    width = "" if options.width == 1 else f",width={options.width:g}"
    model = YOLO(f"yolo11n+{options.backbone}(weights='{learned.weights}'{width})")
    model.train(
        data=options.data, epochs=options.epochs, imgsz=options.imgsz, batch=options.batch, project=options.project
    )


if __name__ == "__main__":
    main()
