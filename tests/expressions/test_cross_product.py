"""Every base with every graft: builds, forward, backward, one optimiser step; what makes no sense gives its reason."""

from __future__ import annotations

from typing import Any

import pytest
from expression_support import needs_base, one_step

from detgraft import build
from detgraft.errors import PlanError

BASES = ("yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n", "rtdetr-l")
GRAFTS = (
    "convnextv2_atto",
    "repvit_m0_9",
    "timm/mobilenetv4_conv_small",
    "carafe",
    "dynamicconv",
    "c3k2_dynamicconv",
)
WITH_C3K2 = ("yolo11n", "yolo12n", "yolo26n")
FAST = {("yolo11n", "convnextv2_atto"), ("yolo11n", "c3k2_dynamicconv"), ("yolo26n", "carafe")}
TASKS = {"-seg": "segment", "-pose": "pose", "-obb": "obb", "-cls": "classify"}


def case(base: str, graft: str, fast: bool) -> Any:
    return pytest.param(base, graft, marks=() if fast else pytest.mark.slow, id=f"{base}+{graft}")


def check(base: str, graft: str, task: str) -> None:
    needs_base(base)
    model: Any = build(f"{base}+{graft}", nc=3)
    # RT-DETR picks 300 of its features' pixels, which a smaller picture does not have.
    assert one_step(model, task, 3, 128 if base == "rtdetr-l" else 64) == []


@pytest.mark.parametrize(
    ("base", "graft"),
    [
        case(base, graft, (base, graft) in FAST)
        for base in BASES
        for graft in GRAFTS
        if graft != "c3k2_dynamicconv" or base in WITH_C3K2
    ],
)
def test_detectors(base: str, graft: str) -> None:
    check(base, graft, "detect")


@pytest.mark.parametrize("suffix", TASKS)
@pytest.mark.parametrize(
    ("base", "graft"),
    [
        case(base, graft, (base, graft) == ("yolo11n", "timm/mobilenetv4_conv_small"))
        for base in ("yolo11n", "yolo26n")
        for graft in GRAFTS
    ],
)
def test_other_tasks(base: str, graft: str, suffix: str) -> None:
    if suffix == "-cls" and graft == "carafe":
        needs_base(base)
        with pytest.raises(PlanError, match="nearest upsampling"):
            build(f"{base}-cls+carafe")
    else:
        check(base + suffix, graft, TASKS[suffix])


@pytest.mark.parametrize("base", [base for base in BASES if base not in WITH_C3K2])
def test_a_base_without_such_rows_gives_the_reason(base: str) -> None:
    with pytest.raises(PlanError, match=rf"{base}\+c3k2_dynamicconv: .*works on every C3k2, and {base} has none.*Conv"):
        build(f"{base}+c3k2_dynamicconv")


@pytest.mark.slow
@pytest.mark.parametrize("base", ["yolov3", "yolov5n", "yolov6n", "yolov9e", "yolov8n-p6", "yolov8n-p2", "yolov8n-cls"])
@pytest.mark.parametrize("graft", ["timm/mobilenetv4_conv_small", "dynamicconv"])
def test_further_stock_architectures(base: str, graft: str) -> None:
    if (base, graft) == ("yolov3", "dynamicconv"):
        base = "yolov3-tiny"  # the same rows at a tenth of the size
    if base == "yolov3-tiny":
        with pytest.raises(PlanError, match="strided Conv after the stem"):
            build(f"{base}+{graft}")
        return
    model: Any = build(f"{base}+{graft}", nc=3)
    assert one_step(model, "classify" if base.endswith("-cls") else "detect", 3, 128 if "p6" in base else 64) == []
