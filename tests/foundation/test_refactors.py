"""Grafts survive ordinary refactors of Ultralytics' parser: each is made of the installed source and tried."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from doctored import constants, doctored_parser, further_argument, installed, lookup
from support import ultralytics_log
from torch import nn
from ultralytics.nn import tasks

from detgraft.errors import PlanError

Change = Callable[[ast.Module], None]

REFACTORS: dict[str, Sequence[Change]] = {
    "A: class sets are constants": [constants],
    "B: lookup is a helper": [lookup],
    "A and B": [constants, lookup],
    "C: a further argument": [further_argument],
    "all": [further_argument, constants, lookup],
}

MARKS = ("type", "i", "f", "np")  # what the parser writes on a layer

MODELS = {
    "backbone": "yolo11n+convnextv2_atto",
    "CARAFE": "yolo11n+carafe",
    "DynamicConv": "yolo11n+dynamicconv",
    "C3k2 at n": "yolo11n+c3k2_dynamicconv",
    "C3k2 at m": "yolo11m+c3k2_dynamicconv@backbone",
    "joined": "yolov8n+weightedconcat+carafe",
    "fused": "yolov8n+bifpnadd@head.1",
    "RT-DETR": "rtdetr-l+convnextv2_atto+carafe",
}


@pytest.fixture(params=list(REFACTORS))
def refactored(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    parser = doctored_parser(tmp_path, REFACTORS[request.param])
    installed(monkeypatch, parser)
    return parser


def described(expression: str) -> dict[str, Any]:
    mapping: dict[str, Any] = tasks.yaml_model_load(f"{expression}.yaml")
    return mapping


def parsed(expression: str) -> nn.Sequential:
    torch.manual_seed(11)
    layers: nn.Sequential = tasks.parse_model(copy.deepcopy(described(expression)), 3, verbose=False)[0]
    return layers


@pytest.fixture(scope="module", params=list(MODELS))
def as_installed(request: pytest.FixtureRequest) -> tuple[str, nn.Sequential]:
    expression = MODELS[request.param]
    return expression, parsed(expression)


def test_a_refactored_parser_builds_the_same_model(as_installed: tuple[str, nn.Sequential], refactored: Any) -> None:
    expression, expected = as_installed
    found = parsed(expression)
    theirs, ours = expected.state_dict(), found.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    for ours_, theirs_ in zip(found, expected, strict=True):
        assert type(ours_) is type(theirs_)
        assert [getattr(ours_, name) for name in MARKS] == [getattr(theirs_, name) for name in MARKS]


def test_a_further_argument_reaches_the_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = doctored_parser(tmp_path, [further_argument])
    installed(monkeypatch, parser)
    for expression in ("yolo11n+carafe", "yolo11n"):
        mapping = described(expression)
        parser.__globals__["RECEIVED"].clear()
        tasks.parse_model(copy.deepcopy(mapping), 3, "segment", False, strict=True)
        tasks.parse_model(copy.deepcopy(mapping), ch=3, task="segment", verbose=False, strict=True)
        assert set(parser.__globals__["RECEIVED"]) == {("segment", True)}
    with pytest.raises(TypeError, match="nonsense"):
        tasks.parse_model(copy.deepcopy(mapping), 3, nonsense=1)


@pytest.mark.parametrize("graft", ["", "+carafe"])
def test_the_row_at_fault_is_named(graft: str, refactored: Any) -> None:
    mapping = described(f"yolo11n{graft}")
    mapping["head"][-4][3] = ["wide"]  # a Conv without a number of channels
    row = len(mapping["backbone"]) + len(mapping["head"]) - 4
    with pytest.raises(PlanError, match=re.escape("'wide'")) as caught:
        tasks.parse_model(mapping, 3, verbose=False)
    assert caught.value.location is not None
    assert caught.value.location.row == row


def test_the_build_log_names_the_grafts(refactored: Any) -> None:
    with ultralytics_log() as lines:
        tasks.parse_model(described("yolo11n+carafe"), 3, verbose=True)
    layers = [line.split() for line in lines if re.match(r"^\s*\d+\s", line)]
    assert [int(words[0]) for words in layers] == list(range(24))
    assert [words[4] for words in layers if "graft" in " ".join(words) or words[4] == "CARAFE"] == ["CARAFE"] * 2
