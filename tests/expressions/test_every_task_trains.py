"""Grafts of every kind through Ultralytics' own training: loss, validation while training, reopening, prediction.

What builds and learns can still fail where a trainer first validates: masks of another size than Ultralytics compares
with were such a case.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from expression_support import TINY, needs_base
from ultralytics import YOLO as Plain

from detgraft import YOLO
from task_data import make_data

TASKS = {"": "detect", "-seg": "segment", "-pose": "pose", "-obb": "obb"}
GRAFTS = (
    "p2",
    "p6",
    "p2+repvit_m0_6",
    "bifpn",
    "afpn",
    "slimneck",
    "asf",
    "hsfpn",
    "gfpn",
    "neck(from=yolov8.yaml)",
    "dyhead",
    "asff",
    "csp(faster)",
    "carafe+spdconv",
    "p6+bifpn+dyhead",
    "wiou+varifocal",
)
FAST = {("yolov8n-seg", "p2"), ("yolo11n-pose", "bifpn"), ("yolo11n-obb", "csp(faster)")}
REFUSED = {("yolo26n-seg", graft) for graft in ("p2", "p2+repvit_m0_6")}
"""Their head makes masks of twice its finest level's size; `test_reasons` of test_levels.py has the sentence."""


def cases() -> list[Any]:
    bases = [f"{base}{suffix}" for base in ("yolov8n", "yolo11n", "yolo26n") for suffix in TASKS]
    pairs = [(base, graft) for base in bases for graft in GRAFTS if not (base.endswith("obb") and "wiou" in graft)]
    pairs += [(base, "nwd+varifocal") for base in bases if base.endswith("obb")]  # WIoU is for upright boxes
    pairs += [("rtdetr-l", graft) for graft in GRAFTS if graft != "wiou+varifocal"] + [("rtdetr-l", "wiou")]
    return [
        pytest.param(*pair, marks=() if pair in FAST else pytest.mark.slow, id="+".join(pair))
        for pair in pairs
        if pair not in REFUSED
    ]


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tasks")
    made = {task: make_data(folder / task, task) for task in ("segment", "pose", "obb")}
    return {**made, "detect": made["segment"]}  # Ultralytics takes the boxes around the outlines


@pytest.mark.parametrize(("base", "graft"), cases())
def test_it_trains_validates_and_predicts(base: str, graft: str, sets: dict[str, Path], tmp_path: Path) -> None:
    needs_base(base)
    task = TASKS.get(f"-{base.partition('-')[2]}", "detect")
    model = YOLO(f"{base}+{graft}")
    assert model.task == task
    metrics: Any = model.train(
        data=str(sets[task]), epochs=1, project=str(tmp_path), name="run", **{**TINY, "imgsz": 128}
    )
    found = {name: value for name, value in metrics.results_dict.items() if name.startswith("metrics/")}
    expected = {"segment": ("B", "M"), "pose": ("B", "P")}.get(task, ("B",))
    assert {name[-2] for name in found} == set(expected)
    assert all(0.0 <= value <= 1.0 for value in found.values())
    losses = (tmp_path / "run" / "results.csv").read_text("utf-8").splitlines()
    values = dict(zip(*(line.replace(" ", "").split(",") for line in losses), strict=True))
    seen = [float(value) for name, value in values.items() if name.startswith(("train/", "val/"))]
    assert seen
    assert torch.isfinite(torch.tensor(seen)).all()

    again: Any = Plain(str(tmp_path / "run" / "weights" / "best.pt"))
    picture = next((sets[task].parent / "images" / "val").iterdir())
    (result,) = again.predict(str(picture), imgsz=128, conf=0.0, max_det=4, verbose=False, device="cpu", save=False)
    boxes = result.obb if task == "obb" else result.boxes
    assert len(boxes) <= 4
    if task == "segment":  # Ultralytics drops a box whose mask is empty, which may be all of them before any training
        stride = int(again.model.stride.max())
        height = -(-86 // stride) * stride  # 80 of 120 pixels, as 86 of 128, padded
        assert not len(boxes) or tuple(result.masks.data.shape[1:]) == (height, 128)
        return
    assert len(boxes)
    if task == "pose":
        assert tuple(result.keypoints.data.shape[1:]) == (4, 3)
