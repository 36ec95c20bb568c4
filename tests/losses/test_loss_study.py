"""A loss as an arm of a study: told apart from its base, priced, given the same weights, trained with its loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from detgraft import YOLO
from detgraft.demo.made import make_shapes
from detgraft.plan.losses import KEY
from detgraft.study.api import report, run
from detgraft.study.design.spec import read_spec

STUDY = """
data: shapes/data.yaml
base: yolo11n
variants: ["wiou(momentum=0.5)"]
seeds: 1
train: {epochs: 1, imgsz: 64, batch: 4, workers: 0}
controls: none
metrics: {bootstrap: 0, split: val}
init: transfer
weights: start.pt
"""


@pytest.mark.slow
def test_a_loss_is_an_arm(tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval", reason="the extra study is not installed")
    make_shapes(tmp_path / "shapes", train=4, val=3, imgsz=64, seed=0)
    torch.manual_seed(0)
    YOLO("yolo11n.yaml").save(str(tmp_path / "start.pt"))
    file = tmp_path / "study.yaml"
    file.write_text(STUDY, "utf-8")
    spec = read_spec(file)
    stock, graft = spec.arms
    assert (stock.model, graft.model) == ("yolo11n", "yolo11n+wiou(momentum=0.5)")
    assert stock.slug != graft.slug
    run(file)
    found = report(file).analysis
    assert [arm.name for arm in found.arms] == [stock.name, graft.name]
    costs = [arm.cost for arm in found.arms]
    assert costs[0].params == costs[1].params
    assert [arm.transferred for arm in found.arms] == pytest.approx([found.arms[0].transferred] * 2)
    kept = {}
    for checkpoint in tmp_path.rglob("best.pt"):
        kept[checkpoint] = YOLO(str(checkpoint)).model.yaml.get(KEY)
    assert sorted(map(json.dumps, kept.values())) == ['["wiou(momentum=0.5)"]', "null"]
