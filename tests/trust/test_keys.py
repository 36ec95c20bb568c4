"""Top-level keys of a model YAML: the ones with a meaning, and the ones that only look like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from trust_support import SMALL, log, written

import detgraft
from detgraft.errors import ArgumentError, DetgraftError, PlanError
from detgraft.upstream.release.capabilities import stock_yamls

pytestmark = pytest.mark.trust


def test_scales_without_indentation_are_refused_with_their_line() -> None:
    text = SMALL.replace("  n: [0.50", "n: [0.50")
    with pytest.raises(PlanError) as caught:
        detgraft.build(written(text))
    assert "line 3" in str(caught.value)
    assert "indent it under 'scales:'" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("widht_multiple: 0.5", "width_multiple"),
        ("depth: 0.33", "depth_multiple"),
        ("gw: 0.5", "width_multiple"),
        ("num_classes: 4", "nc"),
        ("activaton: nn.ReLU()", "activation"),
        ("Scales: {n: [1, 1, 1024]}", "scales"),
        ("act: nn.ReLU()", "activation"),
        ("in_channels: 4", "channels"),
        ("neck:\n  - [-1, 1, Conv, [64, 1, 1]]", "head"),
    ],
)
def test_a_key_that_was_meant_to_work_is_refused(line: str, right: str) -> None:
    with pytest.raises(PlanError) as caught:
        detgraft.build(written(f"{line}\n{SMALL}"))
    assert "line 1" in str(caught.value)
    assert f"'{right}:'" in str(caught.value) or f"'{right}'" in str(caught.value)


@pytest.mark.parametrize("line", ["author: me", "names: [a, b, c]", "anchors: 3", "depth_multiple: 0.33"])
def test_a_key_without_effect_is_said_to_have_none(line: str) -> None:
    with log() as lines:
        built = detgraft.build(written(f"{line}\n{SMALL}", f"yolo11n-{line[:5]}.yaml"))
    assert any("no effect" in entry and "line 1" in entry and line.partition(":")[0] in entry for entry in lines)
    assert sum(p.numel() for p in built.parameters()) == sum(
        p.numel() for p in detgraft.build(written(SMALL)).parameters()
    )


@pytest.mark.parametrize("key", ["ch", "channels"])
def test_input_channels_work_under_the_old_and_the_new_name(key: str) -> None:
    for given in (written(f"{key}: 4\n{SMALL}"), {**yaml.safe_load(SMALL), key: 4}):
        built: Any = detgraft.build(given)
        assert built.model[0].conv.weight.shape[1] == 4
        assert detgraft.show(built, imgsz=64).layers[0].params == built.model[0].conv.weight.numel() + 32
    assert detgraft.YOLO(written(f"{key}: 4\n{SMALL}")).model.model[0].conv.weight.shape[1] == 4


def test_two_numbers_of_input_channels_are_refused() -> None:
    with pytest.raises(PlanError, match="ch: 4"):
        detgraft.build(written(f"ch: 4\nchannels: 3\n{SMALL}"))


def test_a_mapping_for_the_stock_class_is_not_built_with_other_channels() -> None:
    from ultralytics.nn.tasks import DetectionModel

    with pytest.raises(PlanError, match="channels"):
        DetectionModel({**yaml.safe_load(SMALL), "ch": 4}, verbose=False)


@pytest.mark.parametrize("nc", [0, -1, True, 2.5, "3"])
def test_a_wrong_number_of_classes_is_refused_everywhere(nc: Any) -> None:
    for call in (
        lambda: detgraft.build("yolo11n", nc=nc),
        lambda: detgraft.show("yolo11n", nc=nc),
        lambda: detgraft.check("yolo11n", nc=nc),
    ):
        with pytest.raises(ArgumentError, match="number of classes"):
            call()
    with pytest.raises(DetgraftError):
        detgraft.build(written(SMALL.replace("nc: 3", f"nc: {nc!r}")))


def test_every_key_of_the_stock_models_is_known() -> None:
    from detgraft.plan.keys import MEANINGFUL

    found: set[str] = set()
    for path in stock_yamls().values():
        found |= {line.partition(":")[0] for line in Path(path).read_text("utf-8").splitlines() if line[:1].isalpha()}
    assert found <= set(MEANINGFUL)
