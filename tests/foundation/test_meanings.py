"""A later Ultralytics has a class under the name of a graft: what was composed or built stays what it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from ultralytics.nn import tasks

from detgraft import YOLO, build
from detgraft.blocks.carafe import CARAFE
from detgraft.blocks.cbam import CBAM
from detgraft.errors import PlanError
from detgraft.plan.meanings import RECORD, recorded
from detgraft.upstream.describe.expressions import RECORD as COMPOSED
from detgraft.upstream.describe.expressions import to_yaml
from detgraft.upstream.model.safetensors import write_safetensors


class Later(nn.Module):
    """Takes what a row gives and keeps the channels, as the parser's last rule has it."""

    def __init__(self, *args: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x


class LaterUpsample(nn.Upsample):
    def __init__(self, *args: Any) -> None:
        super().__init__(None, 2, "nearest")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "CBAM", Later, raising=False)
    monkeypatch.setattr(tasks, "CARAFE", LaterUpsample, raising=False)


def kinds(model: Any) -> list[type]:
    return [type(layer) for layer in model.model if type(layer) in (CARAFE, CBAM, Later, LaterUpsample)]


@pytest.fixture
def handwritten(tmp_path: Path) -> Path:
    path = tmp_path / "yolo11n-mine.yaml"
    path.write_text(to_yaml(tasks.yaml_model_load("yolo11n+carafe.yaml")), "utf-8")
    return path


def test_an_expression_means_the_graft(later: None) -> None:
    assert kinds(build("yolo11n+carafe+cbam", nc=3)) == [CBAM] * 3 + [CARAFE] * 2
    assert kinds(YOLO("yolo11n+carafe").model) == [CARAFE] * 2


def test_what_is_read_fresh_takes_the_stock_class(handwritten: Path, later: None) -> None:
    assert kinds(build(handwritten, nc=3)) == [LaterUpsample] * 2
    assert kinds(build("yolo11n-carafe.yaml", nc=3)) == [LaterUpsample] * 2


@pytest.mark.parametrize("source", ["expression", "file"])
@pytest.mark.parametrize("by", ["this version", "an older detgraft"])
def test_a_checkpoint_means_what_it_was_built_with(
    source: str, by: str, handwritten: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wrapper = YOLO("yolo11n+carafe" if source == "expression" else handwritten)
    if by != "this version":
        del wrapper.model.yaml[RECORD]
    torch.save({"model": wrapper.model, "ema": None, "train_args": {}}, tmp_path / "old.pt")
    request.getfixturevalue("later")
    opened: Any = YOLO(tmp_path / "old.pt").model
    assert kinds(opened) == [CARAFE] * 2
    again: Any = tasks.DetectionModel(opened.yaml, verbose=False)
    assert kinds(again) == [CARAFE] * 2
    assert again.state_dict().keys() == opened.state_dict().keys()
    again.load(opened, verbose=False)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), opened.parameters(), strict=True))


def test_a_file_without_pickle_means_what_it_was_built_with(
    handwritten: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    write_safetensors(YOLO(handwritten).model, tmp_path / "old.safetensors")
    request.getfixturevalue("later")
    assert kinds(YOLO(tmp_path / "old.safetensors").model) == [CARAFE] * 2


def test_one_description_may_have_both(tmp_path: Path, later: None) -> None:
    mapping = tasks.yaml_model_load("yolo11n.yaml")
    mapping["backbone"].append([-1, 1, "CBAM", []])
    path = tmp_path / "yolo11n-own.yaml"
    path.write_text(to_yaml(mapping), "utf-8")
    composed = tasks.yaml_model_load(f"{path.with_suffix('')}+cbam@backbone.6.yaml")
    assert kinds(build(composed, nc=3)) == [CBAM, Later]
    assert kinds(build(build(composed, nc=3).yaml, nc=3)) == [CBAM, Later]


def test_a_stock_row_does_not_become_a_graft(later: None, monkeypatch: pytest.MonkeyPatch) -> None:
    mapping = tasks.yaml_model_load("yolo11n+carafe.yaml")
    mapping["backbone"].append([-1, 1, "CBAM", []])
    mapping.pop(RECORD)
    for row in (*mapping["backbone"], *mapping["head"]):
        row[2] = "DySample" if row[2] == "CARAFE" else row[2]
    built: Any = build(mapping, nc=3)
    assert kinds(built) == [Later]
    monkeypatch.delattr(tasks, "CBAM")
    with pytest.raises(PlanError, match="'CBAM' was Ultralytics' own"):
        build(built.yaml, nc=3)


def test_a_graft_that_is_gone_does_not_become_a_stock_row(later: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from detgraft.catalog.registry import catalogue

    mapping = tasks.yaml_model_load("yolo11n+cbam.yaml")
    monkeypatch.setattr(catalogue, "_by_name", {k: v for k, v in catalogue._by_name.items() if k.lower() != "cbam"})
    with pytest.raises(PlanError, match="'CBAM' was a graft"):
        build(mapping, nc=3)


def test_a_row_that_somebody_has_changed_is_read_anew(later: None) -> None:
    mapping = tasks.yaml_model_load("yolo11n+carafe+cbam.yaml")
    row = next(row for row in mapping["head"] if row[2] == "CARAFE")
    row[2], row[3] = "CBAM", []
    changed = len(mapping["backbone"]) + mapping["head"].index(row)
    assert recorded(mapping)[changed] is None
    assert sum(was is True for was in recorded(mapping)) == 4


@pytest.mark.parametrize("record", [5, [], [["Conv"]] * 24, [[1, 2]] * 24, {"0": "graft"}, [None] * 24])
def test_a_damaged_record_counts_as_none(record: Any) -> None:
    mapping = tasks.yaml_model_load("yolo11n+carafe.yaml")
    assert recorded({**mapping, RECORD: record}) == [None] * 24
    assert kinds(build({**mapping, RECORD: record}, nc=3)) == [CARAFE] * 2


def test_stock_descriptions_are_left_alone() -> None:
    assert RECORD not in build("yolo11n.yaml", nc=3).yaml
    grafted: Any = build("yolo11n-carafe.yaml", nc=3)
    assert COMPOSED not in grafted.yaml
    assert RECORD not in to_yaml(grafted.yaml)


def test_a_stock_rows_texts_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights files are taken out of a grafted backbone's row, not out of a stock row of the same name."""
    from detgraft.plan.weights_files import without_files

    mapping = {"backbone": [[-1, 1, "convnextv2_atto", [8, "words"]]], "head": []}
    assert without_files(copy.deepcopy(mapping))["backbone"][0][3] == [8]
    monkeypatch.setattr(tasks, "convnextv2_atto", Later, raising=False)
    assert without_files(copy.deepcopy(mapping)) == mapping
