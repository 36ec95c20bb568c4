"""A description is made once and handed on: one composition, one parse, one plan of it, one walk of the YAMLs."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from expression_support import run_python, save_checkpoint

import detgraft
from detgraft.upstream.release import capabilities
from detgraft.upstream.release.quiet import quiet

EXPRESSION = "yolo11n+convnextv2_atto+carafe"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count calls wherever detgraft's modules have imported these functions."""
    import detgraft.upstream.model.models
    import detgraft.upstream.service.descriptions  # noqa: F401

    counts: Counter[str] = Counter()
    places = {
        "compose": "detgraft.plan.compose",
        "parse_expression": "detgraft.plan.expression",
        "make_plan": "detgraft.plan.rows",
    }

    def counting(name: str, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return original(*args, **kwargs)

        return call

    for name, module in places.items():
        original = getattr(importlib.import_module(module), name)
        for holder in [m for key, m in list(sys.modules.items()) if key.startswith("detgraft.")]:
            if vars(holder).get(name) is original:
                monkeypatch.setattr(holder, name, counting(name, original))
    walk = Path.rglob

    def rglob(self: Path, *args: Any, **kwargs: Any) -> Any:
        counts["walks"] += self == capabilities.MODELS_FOLDER
        return walk(self, *args, **kwargs)

    monkeypatch.setattr(Path, "rglob", rglob)
    return counts


@pytest.mark.parametrize("way", ["detgraft", "ultralytics", "build"])
def test_an_expression_is_composed_once(way: str, counted: Counter[str]) -> None:
    if way == "build":
        detgraft.build(EXPRESSION)
    elif way == "detgraft":
        detgraft.YOLO(EXPRESSION)
    else:
        from ultralytics import YOLO

        YOLO(EXPRESSION + ".yaml")
    assert counted["compose"] == 1
    assert counted["parse_expression"] == 1
    assert counted["make_plan"] == 2, "the base's and the model's"
    assert counted["walks"] <= 1


def test_a_check_composes_once(counted: Counter[str]) -> None:
    detgraft.check(EXPRESSION, imgsz=64, only=("gradients",))
    assert counted["compose"] == counted["parse_expression"] == 1
    assert counted["make_plan"] <= 3
    assert counted["walks"] <= 1


def test_a_yaml_that_was_written_again_is_read_again(tmp_path: Path) -> None:
    head = "head:\n- [[-1], 1, Detect, [nc]]\n"
    path = tmp_path / "mine.yaml"
    for width in (16, 32):
        path.write_text(f"nc: 1\nbackbone:\n- [-1, 1, Conv, [{width}, 3, 2]]\n- [-1, 1, SimAM, []]\n{head}", "utf-8")
        model: Any = detgraft.YOLO(path).model
        assert model.model[0].conv.out_channels == width


def test_a_data_yaml_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from detgraft.datasets import folder
    from detgraft.demo.made import make_shapes
    from detgraft.upstream.model.data import prepare_data

    yaml = make_shapes(tmp_path / "set", train=1, val=1, imgsz=64, seed=1)
    parsed: list[str] = []
    original = folder.parse_located
    monkeypatch.setattr(folder, "parse_located", lambda text, *rest: parsed.append(text) or original(text, *rest))
    prepare_data(yaml, "detect", tmp_path)
    first = folder.load_data_yaml(Path(yaml))
    assert len(parsed) == 1
    first["names"].clear()
    assert folder.load_data_yaml(Path(yaml))["names"], "what is handed out is the caller's own"
    Path(yaml).write_text(Path(yaml).read_text("utf-8") + "# more\n", "utf-8")
    folder.load_data_yaml(Path(yaml))
    assert len(parsed) == 2


def test_a_changed_description_is_not_taken_for_the_one_before() -> None:
    from ultralytics.nn import tasks

    mapping = tasks.yaml_model_load("yolo11n-carafe.yaml")
    first: Any = detgraft.build(mapping)
    mapping["backbone"][0][3][1] = 5
    second: Any = detgraft.build(mapping)
    assert [m.model[0].conv.kernel_size for m in (first, second)] == [(3, 3), (5, 5)]
    assert torch.is_tensor(second.stride)


def test_a_checkpoint_in_the_weights_folder_is_found_as_stock_finds_it(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    save_checkpoint(detgraft.YOLO("yolo11n+carafe"), folder / "mine.pt")
    code = """
import json, sys
from ultralytics.utils import SETTINGS
dict.__setitem__(SETTINGS, "weights_dir", sys.argv[1])
import detgraft
found = [detgraft.YOLO("mine.pt").model.model[11].type]
try:
    detgraft.YOLO("mime.pt")
except ValueError as error:
    found.append(str(error))
print(json.dumps(found))
"""
    paths = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    found = run_python(code, str(folder), cwd=tmp_path, env={**paths, "YOLO_OFFLINE": "1"})
    assert found[0] == "CARAFE"
    assert "mine.pt" in found[1], json.dumps(found)


def test_overlapping_quiet_calls_give_the_level_back() -> None:
    from ultralytics.utils import LOGGER

    before = LOGGER.level
    first, second = quiet(), quiet(50)
    first.__enter__()
    second.__enter__()
    assert LOGGER.level == 50
    first.__exit__(None, None, None)
    assert LOGGER.level == 50, "the other one is still open"
    second.__exit__(None, None, None)
    assert LOGGER.level == before

    inside, leave = threading.Barrier(2), threading.Event()

    def hold() -> None:
        with quiet():
            inside.wait(10)
            leave.wait(10)

    thread = threading.Thread(target=hold)
    with quiet():
        thread.start()
        inside.wait(10)
    leave.set()
    thread.join(10)
    assert LOGGER.level == before


@pytest.mark.trust
def test_a_block_that_is_registered_anew_is_the_one_that_is_built() -> None:
    """As in a notebook whose cell with the block is run again: the same text means the block of now."""
    from torch import nn

    from detgraft.catalog.registry import catalogue, register

    for number in (1, 2):

        class Anew(nn.Conv2d):
            def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1) -> None:
                super().__init__(c1, c2, k, s, k // 2)

        register("registeredanew", channels="scaled", site="downsample")(Anew)
        try:
            for _ in range(2):
                model: Any = detgraft.build("yolo11n+registeredanew@backbone.1")
                assert [m for m in model.model if isinstance(m, Anew)], f"registration {number}"
        finally:
            catalogue.remove("registeredanew")
