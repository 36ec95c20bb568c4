"""Exports a model and proves that the exported file answers as the PyTorch model does.

python examples/export_and_verify.py --model runs/detect/train/weights/best.pt --source picture.jpg
"""

from __future__ import annotations

import argparse
import sys

import torch

from detgraft import YOLO


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a checkpoint")
    parser.add_argument("--source", required=True, help="a picture")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--format", default="onnx", help="onnx, torchscript, openvino, ...")
    options = parser.parse_args()

    model = YOLO(options.model)
    file = model.export(format=options.format, imgsz=options.imgsz)
    words = {"imgsz": options.imgsz, "rect": False, "conf": 0.05, "verbose": False}
    ours = model.predict(options.source, **words)[0].boxes
    theirs = YOLO(file, task=model.task).predict(options.source, **words)[0].boxes
    same = len(ours) == len(theirs) and bool(torch.allclose(ours.data, theirs.data, atol=0.5))
    print(f"{file}: {len(theirs)} boxes, PyTorch has {len(ours)}; {'equal' if same else 'NOT equal'}")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
