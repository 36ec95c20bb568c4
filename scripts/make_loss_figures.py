"""Make tests/losses/official.json: values and gradients of losses from the official repositories.

Usage: python scripts/make_loss_figures.py CHECKOUTS OUT

CHECKOUTS holds one checkout per repository as CHECKOUTS/<owner>/<name>, at the commits in ``SOURCES``. Nothing of them
is kept here: the functions are taken out of their files, run on boxes and scores drawn below in float64, and their
numbers written down. EIoU, MPDIoU and PIoU have no official code that we know of (what Instinct323/wiou calls EIoU has
the centres' distance where the paper has the sides' differences); SIoU's author published none, and YOLOv6's is run.
"""

from __future__ import annotations

import ast
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SOURCES = {
    "Instinct323/wiou": "ca97fc0",
    "meituan/YOLOv6": "e86a483",
    "malagoutou/Shape-IoU": "6cc086e",
    "malagoutou/Inner-IoU": "db9e8db",
    "Jacobi93/Alpha-IoU": "39d439e",
    "jwwangchn/NWD": "9775ac2",
    "Krasjet-Yu/YOLO-FaceV2": "cf42012",
}


def taken(file: Path, *names: str) -> dict[str, Any]:
    """Run the definitions of some names of a file, without their decorators and without the rest of it."""
    tree = ast.parse(file.read_text("utf-8"))
    nodes: list[Any] = [node for node in tree.body if getattr(node, "name", None) in names]
    for node in nodes:
        node.decorator_list = []
    space: dict[str, Any] = {"torch": torch, "math": math, "nn": nn, "F": functional}
    space["weight_reduce_loss"] = lambda loss, *_: loss
    exec(compile(ast.Module(nodes, []), str(file), "exec"), space)
    return space


def pairs() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(7)
    middle = 40 + 60 * torch.rand(24, 2, generator=random, dtype=torch.float64)
    size = 8 + 60 * torch.rand(24, 2, generator=random, dtype=torch.float64)
    move = 25 * torch.randn(24, 2, generator=random, dtype=torch.float64)
    other = size * torch.exp(0.5 * torch.randn(24, 2, generator=random, dtype=torch.float64))
    target = torch.cat((middle - size / 2, middle + size / 2), 1)
    pred = torch.cat((middle + move - other / 2, middle + move + other / 2), 1)
    return pred, target


def centred(boxes: Tensor) -> Tensor:
    return torch.cat(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), 1)


def main(checkouts: Path, out: Path) -> None:
    pred, target = pairs()
    wise = taken(checkouts / "Instinct323/wiou/iou.py", "IouLoss")["IouLoss"]
    six = taken(checkouts / "meituan/YOLOv6/yolov6/utils/figure_iou.py", "IOUloss")["IOUloss"]
    shape = taken(checkouts / "malagoutou/Shape-IoU/shapeiou.py", "shape_iou")["shape_iou"]
    inner_c = taken(checkouts / "malagoutou/Inner-IoU/innerciou.py", "inner_ciou")["inner_ciou"]
    inner_s = taken(checkouts / "malagoutou/Inner-IoU/innersiou.py", "inner_siou")["inner_siou"]
    power = taken(checkouts / "Jacobi93/Alpha-IoU/utils/general.py", "bbox_alpha_iou")["bbox_alpha_iou"]
    metric = "mmdet/core/bbox/iou_calculators/metric_calculator.py"
    gauss = taken(checkouts / "jwwangchn/NWD" / metric, "bbox_overlaps")["bbox_overlaps"]

    def wiou(version: int, steps: int = 1) -> Any:
        def run(p: Tensor, t: Tensor) -> Tensor:
            module = wise("WIoU", {1: None, 2: True, 3: False}[version]).double()
            module.alpha, module.delta = 1.9, 3  # the paper's
            for _ in range(steps):
                found = module(p, t)
            return found

        return run

    boxes: dict[str, Any] = {
        "giou": lambda p, t: six("xyxy", "giou", eps=1e-12)(p, t)[:, 0],
        "diou": lambda p, t: six("xyxy", "diou", eps=1e-12)(p, t)[:, 0],
        "ciou": lambda p, t: six("xyxy", "ciou", eps=1e-12)(p, t)[:, 0],
        "siou": lambda p, t: six("xyxy", "siou", eps=1e-12)(p, t)[:, 0],
        "wiou(version=1)": wiou(1),
        "wiou(version=2)": wiou(2),
        "wiou(version=3)": wiou(3),
        "wiou(version=3) after 5 steps": wiou(3, 5),
        "shape_iou": lambda p, t: 1 - shape(centred(p), centred(t))[:, 0],
        "shape_iou(scale=0.7)": lambda p, t: 1 - shape(centred(p), centred(t), scale=0.7)[:, 0],
        "ciou(inner=0.75)": lambda p, t: 1 - inner_c(centred(p), centred(t), ratio=0.75)[:, 0],
        "siou(inner=1.2)": lambda p, t: 1 - inner_s(centred(p), centred(t), ratio=1.2)[:, 0],
        "nwd(ratio=1.0)": lambda p, t: 1 - gauss(p, t, mode="wasserstein", eps=1e-12).diagonal(),
    }
    for form in ("iou", "giou", "diou", "ciou"):
        flags = {} if form == "iou" else {{"giou": "GIoU", "diou": "DIoU", "ciou": "CIoU"}[form]: True}
        boxes[f"alpha_iou(form={form})"] = lambda p, t, flags=flags: (
            1 - power(p.T, t, x1y1x2y2=True, alpha=3, eps=1e-12, **flags)
        )
    figures: dict[str, Any] = {}
    for name, function in boxes.items():
        leaf = pred.clone().requires_grad_()
        loss = function(leaf, target)
        loss.sum().backward()
        figures[name] = {"loss": loss.tolist(), "gradient": leaf.grad.tolist()}

    random = torch.Generator().manual_seed(8)
    logits = 2 * torch.randn(9, 4, generator=random, dtype=torch.float64)
    label = torch.randint(0, 5, (9,), generator=random)
    quality = torch.rand(9, generator=random, dtype=torch.float64)
    hard = functional.one_hot(label, 5)[:, :4].double()
    soft = hard * quality[:, None]
    folder = checkouts / "jwwangchn/NWD/mmdet/models/losses"
    focal = taken(folder / "focal_loss.py", "py_sigmoid_focal_loss")["py_sigmoid_focal_loss"]
    vfl = taken(folder / "varifocal_loss.py", "varifocal_loss")["varifocal_loss"]
    qfl = taken(folder / "gfocal_loss.py", "quality_focal_loss")["quality_focal_loss"]
    slide = taken(checkouts / "Krasjet-Yu/YOLO-FaceV2/utils/loss.py", "SlideLoss")["SlideLoss"]
    scores: dict[str, Any] = {
        "focal": lambda x: focal(x, hard).sum(1),
        "varifocal": lambda x: vfl(x, soft).sum(1),
        "quality_focal": lambda x: qfl(x, (label, quality)),
        "slide": lambda x: slide(nn.BCEWithLogitsLoss(reduction="none"))(x, soft, 0.45).sum(1),
    }
    for name, function in scores.items():
        leaf = logits.clone().requires_grad_()
        loss = function(leaf)
        loss.sum().backward()
        figures[name] = {"loss": loss.tolist(), "gradient": leaf.grad.tolist()}
    inputs = {"pred": pred, "target": target, "logits": logits, "hard": hard, "soft": soft}
    record = {
        "sources": SOURCES,
        "torch": torch.__version__,
        "inputs": {name: value.tolist() for name, value in inputs.items()},
        "figures": figures,
    }
    out.write_text(json.dumps(record) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
