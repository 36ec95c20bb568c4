"""Trains a graft on your data, from a stock checkpoint where the graft leaves layers alone.

python examples/train_a_graft.py --data data.yaml --model yolo11n+carafe --weights yolo11n.pt
"""

from __future__ import annotations

import argparse

from detgraft import YOLO


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a data YAML, or a folder with train/ and val/")
    parser.add_argument("--model", default="yolo11n+carafe", help="a graft expression or a model YAML")
    parser.add_argument("--weights", help="a checkpoint of the stock model; without it training starts from scratch")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--project", help="folder for the run")
    options = parser.parse_args()

    # Half of the tensors is little: a graft that leaves less is refused here, instead of training from scratch unseen.
    model = YOLO(options.model, transfer=options.weights, transfer_min=0.5 if options.weights else 0.0)
    model.train(
        data=options.data, epochs=options.epochs, imgsz=options.imgsz, batch=options.batch, project=options.project
    )
    best = YOLO(str(model.trainer.best))  # opens wherever detgraft is installed
    print(f"mAP50-95 {best.val(data=options.data, imgsz=options.imgsz).box.map:.3f}, weights in {model.trainer.best}")


if __name__ == "__main__":
    main()
