"""`+p2` and `+p6`: Ultralytics' own rows where it has the model, the same pattern elsewhere, reasons where not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from expression_support import needs_base, one_step

from detgraft import build, list_grafts
from detgraft.blocks.asff import ASFF
from detgraft.catalog.registry import catalogue
from detgraft.errors import ArgumentError, PlanError
from detgraft.upstream.describe.expressions import compose_mapping
from detgraft.upstream.describe.load import load_yaml
from detgraft.upstream.describe.plans import plan_of
from detgraft.upstream.model.transfer import report_of

STOCK = [
    *((f"yolov8{scale}", level) for scale in "nsm" for level in ("p2", "p6")),
    *(("yolo26n", level) for level in ("p2", "p6")),
    *(("yolov8n-ghost", level) for level in ("p2", "p6")),
    ("yolov8l", "p6"),
    ("yolov8n-seg", "p6"),
    ("yolov8n-pose", "p6"),
    ("yolov5n", "p6"),
]


def rows(mapping: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Rows with absolute sources, so that -1 and the layer's number are the same."""
    return [(row.sources, row.repeats, row.module, row.args, row.section) for row in plan_of(mapping).rows]


@pytest.mark.parametrize(("base", "level"), STOCK)
def test_rows_are_those_of_the_stock_model(base: str, level: str) -> None:
    needs_base(base)
    assert rows(compose_mapping(f"{base}+{level}")) == rows(load_yaml(f"{base}-{level}.yaml"))


@pytest.mark.parametrize(
    ("base", "level"), [("yolov8n", "p2"), ("yolov8n", "p6"), ("yolo26n", "p2"), ("yolo26n", "p6")]
)
def test_parameters_are_those_of_the_stock_model(base: str, level: str) -> None:
    needs_base(base)
    grafted, stock = build(f"{base}+{level}").state_dict(), build(f"{base}-{level}").state_dict()
    assert {k: v.shape for k, v in grafted.items()} == {k: v.shape for k, v in stock.items()}


def test_both_levels_in_either_order() -> None:
    first, second = compose_mapping("yolo11n+p2+p6"), compose_mapping("yolo11n+p6+p2")
    assert rows(first) == rows(second)
    assert first["head"][-1][0] == [24, 27, 30, 33, 36]


def test_other_grafts_count_the_rows_that_are_there_then() -> None:
    found = compose_mapping("yolo11n+p2+carafe@head.6+convnextv2_atto")
    assert [row[2] for row in found["head"]].count("CARAFE") == 1
    assert found["head"][6][2] == "CARAFE"
    assert found["head"][7][0] == [-1, 1]  # the backbone's feature of stride 4
    assert len(found["detgraft"]["origins"]) == len(build("yolo11n+p2+carafe@head.6+convnextv2_atto").model)


def test_origins_name_layers_of_the_stock_base() -> None:
    origins = compose_mapping("yolo11n+p2")["detgraft"]["origins"]
    assert origins == [*range(17), *[None] * 6, *range(17, 24)]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("yolov8n-p2+p2", "has a level of stride 4 \\(P2\\) already"),
        ("yolov8n-cls+p6", "it has no neck"),
        ("yolov3-tiny+p2", "reads strides 16, 32, and P2 stands next to stride 8"),
        ("yolo11n+p2@head", "its site cannot be narrowed"),
        ("yolo26n-seg+p2", "its head makes masks of twice its finest level's size"),
    ],
)
def test_reasons(expression: str, message: str) -> None:
    needs_base(expression.partition("+")[0])
    with pytest.raises(PlanError, match=message):
        compose_mapping(expression)


def test_keywords_are_checked() -> None:
    with pytest.raises(ArgumentError, match="'p2' has no argument 'width'"):
        compose_mapping("yolo11n+p2(width=2)")


def test_a_row_cannot_name_a_level() -> None:
    mapping = load_yaml("yolo11n.yaml")
    mapping["head"][0] = [-1, 1, "p2", []]
    with pytest.raises(PlanError, match="no row; it is a term of an expression"):
        build(mapping)


def test_levels_are_listed() -> None:
    assert {entry.name for entry in list_grafts("p?")} == {"p2", "p6"}
    assert catalogue.get("P6").site == "level"


def test_transfer_follows_layers_and_the_heads_branches() -> None:
    """The branch of P3 is the second one behind +p2; by its number alone P2 would get P3's tensors where they fit."""
    source: Any = build("yolov8n", nc=3)
    target: Any = build("yolov8n+p2", nc=3)
    target.load(source, verbose=False)
    given, found = source.state_dict(), target.state_dict()
    for name in ("0.conv.weight", "1.conv.weight", "2.weight"):
        for level in range(3):
            assert torch.equal(found[f"model.28.cv2.{level + 1}.{name}"], given[f"model.22.cv2.{level}.{name}"])
        assert not torch.equal(found[f"model.28.cv2.0.{name}"], given[f"model.22.cv2.0.{name}"])
    assert torch.equal(found["model.22.conv.weight"], given["model.16.conv.weight"])
    report = report_of(target)
    assert report is not None
    assert {layer.index for layer in report.layers if layer.status == "new"} == {18, 19, 21}


def largest(found: Any) -> int:
    """Side of a prototype tensor; newer heads give a tuple with it in front."""
    return int((found if isinstance(found, torch.Tensor) else found[0]).shape[-1])


@pytest.mark.parametrize(
    ("expression", "strides"),
    [
        ("yolo11n-seg+p2", [8, 16, 32, 4]),
        ("yolov8n-seg+p6+p2", [8, 16, 32, 64, 4]),
        ("yolo11n-seg+p2+asff", [8, 16, 32, 4]),
        ("yolo11n-seg+p2+simam+asff", [8, 16, 32, 4]),
        ("yolo11n-seg+p2+bifpn", [8, 16, 32, 4]),
        ("yolo11n-pose+p2", [4, 8, 16, 32]),
    ],
)
def test_masks_stay_at_a_quarter_of_the_picture(expression: str, strides: list[int]) -> None:
    """Ultralytics measures them there: with P2 in front a training failed when its first epoch was validated."""
    needs_base(expression.partition("+")[0])
    model: Any = build(expression, nc=3)
    assert model.stride.tolist() == strides
    seen: list[list[int]] = []
    for module in model.modules():
        if isinstance(module, ASFF):
            module.register_forward_pre_hook(lambda _module, given: seen.append([x.shape[-1] for x in given[0]]))
    for module in model.modules():
        if type(module).__name__.startswith("Proto"):
            module.register_forward_hook(lambda _module, _given, found: seen.append([largest(found)]))
    with torch.no_grad():
        model.eval()(torch.rand(1, 3, 128, 128))
    refined, masks = [[32, 16, 8, 4]] * ("asff" in expression), [[32]] * ("-seg" in expression)
    assert seen == [*refined, *masks]


@pytest.mark.slow
@pytest.mark.parametrize("base", ["rtdetr-l", "yolo26n-depth"])
def test_a_head_without_strides_learns_of_the_level(base: str) -> None:
    needs_base(base)
    assert int(build(f"{base}+p6").stride.max()) == 64
    assert int(build(f"{base}+p2").stride.max()) == 32


TASKS = {"": "detect", "-seg": "segment", "-pose": "pose", "-obb": "obb"}


@pytest.mark.slow
@pytest.mark.parametrize("level", ["p2", "p6", "p2+p6", "p2+repvit_m0_6", "p6+convnextv2_atto"])
@pytest.mark.parametrize(
    "base",
    [
        *(f"{base}{suffix}" for base in ("yolov8n", "yolo11n", "yolo26n") for suffix in TASKS),
        *("yolov3", "yolov5n", "yolov6n", "yolov9t", "yolov9e", "yolov10n", "yolov10x", "yolo12n", "rtdetr-l"),
    ],
)
def test_every_base_learns_with_further_levels(base: str, level: str) -> None:
    needs_base(base)
    if base == "yolo26n-seg" and "p2" in level:
        pytest.skip("refused: see test_reasons")
    name, _, suffix = base.partition("-")
    task = TASKS.get(f"-{suffix}" if suffix else "", "detect")
    assert one_step(build(f"{base}+{level}", nc=3), task, 3, 256 if name == "rtdetr" else 128) == []
