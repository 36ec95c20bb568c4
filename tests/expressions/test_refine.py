"""The rule `refine`: a list of features to a list of features, between neck and head, while the head stays stock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from expression_support import needs_base, one_step
from torch import Tensor, nn

from detgraft import build, register
from detgraft.catalog.registry import catalogue
from detgraft.errors import CatalogError, PlanError
from detgraft.upstream.describe.expressions import compose_mapping, to_yaml
from detgraft.upstream.describe.load import load_yaml

TASKS = {"": "detect", "-seg": "segment", "-pose": "pose", "-obb": "obb"}
FAST = {("yolo11n", "asff"), ("yolo26n-seg", "dyhead")}


def case(base: str, graft: str) -> Any:
    return pytest.param(base, graft, marks=() if (base, graft) in FAST else pytest.mark.slow, id=f"{base}+{graft}")


@pytest.mark.parametrize(
    ("base", "graft"),
    [
        case(f"{base}{suffix}", graft)
        for base in ("yolov8n", "yolo11n", "yolo26n")
        for suffix in TASKS
        for graft in ("asff", "dyhead")
    ]
    + [case(base, graft) for base in ("rtdetr-l", "yolov8n-rtdetr", "yolov10n") for graft in ("asff", "dyhead")],
)
def test_every_head_learns_behind_a_refiner(base: str, graft: str) -> None:
    needs_base(base)
    name, _, suffix = base.partition("-")
    task = TASKS.get(f"-{suffix}", "detect") if name != "rtdetr" else "detect"
    assert one_step(build(f"{base}+{graft}", nc=3), task, 3, 128 if "rtdetr" in base else 64) == []


def test_the_head_stays_and_reads_the_refined_features() -> None:
    found, stock = compose_mapping("yolo11n+dyhead(blocks=1)"), load_yaml("yolo11n.yaml")
    assert found["head"][-2] == [[16, 19, -1], 1, "DyHead", [None, 1]]
    assert found["head"][-1] == [[24, 25, 26], *stock["head"][-1][1:]]
    assert found["detgraft"]["origins"] == [*range(23), None, None, None, None, 23]
    assert "its features are layers 24 to 26" in to_yaml(found)


def test_layers_count_as_in_the_built_model() -> None:
    model: Any = build("yolo11n+p2+asff")
    assert [layer.type for layer in model.model[29:]][:6] == [
        "ASFF",
        *["Feature"] * 4,
        "ultralytics.nn.modules.head.Detect",
    ]
    assert model.model[-1].f == [30, 31, 32, 33]
    assert [int(stride) for stride in model.stride] == [4, 8, 16, 32]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("yolo11n-cls+asff", "Classify of yolo11n-cls reads one"),
        ("yolo11n+asff+dyhead", "both stand before the head; a model has one"),
        ("yolo11n+asff@head.2", "its site cannot be narrowed"),
    ],
)
def test_reasons_of_refiners(expression: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        compose_mapping(expression)


@pytest.mark.parametrize(
    ("row", "reader", "message"),
    [
        ([16, 1, "ASFF", []], [[22], 1, "Detect", ["nc"]], "takes a list of two or more features"),
        ([[16, 19, 22], 2, "ASFF", []], [[24], 1, "Detect", ["nc"]], "cannot be repeated"),
        ([[16, 19, 22], 1, "ASFF", []], [[23], 1, "Detect", ["nc"]], "its features are layers 24 to 26"),
    ],
)
def test_rows_that_make_no_sense(row: list[Any], reader: list[Any], message: str) -> None:
    mapping = load_yaml("yolo11n.yaml")
    mapping["head"][-1:] = [row, reader]
    with pytest.raises(PlanError, match=message):
        build(mapping)


@pytest.fixture
def own() -> Iterator[type[nn.Module]]:
    @register("ScaleEach", channels="refine")
    class ScaleEach(nn.Module):
        """One factor per level."""

        def __init__(self, channels: list[int], start: float = 1.0) -> None:
            super().__init__()
            self.channels = channels
            self.factors = nn.ParameterList(nn.Parameter(torch.tensor(start)) for _ in channels)

        def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
            return [x * factor for x, factor in zip(features, self.factors, strict=True)]

    yield ScaleEach
    catalogue.remove("ScaleEach")


def test_an_own_refiner_changes_only_what_it_computes(own: type[nn.Module]) -> None:
    torch.manual_seed(0)
    stock: Any = build("yolo11n", nc=3).eval()
    grafted: Any = build("yolo11n+scaleeach", nc=3).eval()
    assert isinstance(grafted.model[23], own)
    moved = {key.replace("model.23.", "model.27."): value for key, value in stock.state_dict().items()}
    missing = grafted.load_state_dict(moved, strict=False)
    assert missing.missing_keys == [f"model.23.factors.{level}" for level in range(3)]
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(grafted(x)[0], stock(x)[0])


def test_a_refiner_must_say_its_channels(own: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "channels", property(lambda self: (1,), lambda self, value: None), raising=False)
    with pytest.raises(CatalogError, match="one number for each of its 3 features"):
        build("yolo11n+scaleeach")
