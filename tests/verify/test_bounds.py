"""Absurd or broken descriptions are refused before anything of their size exists, and with the row at fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from verify_support import run_check

import detgraft
from detgraft.errors import DetgraftError, PlanError
from detgraft.upstream.describe import bounds
from detgraft.upstream.describe.resolve import zoo_yamls
from detgraft.upstream.release.capabilities import stock_yamls

HEAD = "head:\n- [[-1], 1, Detect, [nc]]\n"


def write(path: Path, rows: str, top: str = "nc: 3\n", head: str = HEAD) -> str:
    path.write_text(f"{top}backbone:\n{rows}{head}", "utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("rows", "top", "line", "words"),
    [
        ("- [-1, 1, Conv, [70000, 3, 2]]\n", "", 3, ["70000", "65536"]),
        ("- [-1, 1, Conv, [8, 3, 2]]\n- [-1, 1, Conv, [8, 99999]]\n", "", 4, ["99999"]),
        ("- [-1, 1, Conv, [60000, 3, 2]]\n- [-1, 1, Conv, [60000, 3]]\n", "", 4, ["parameters"]),
        ("- [-1, 1, Conv, [60000, 3, 2]]\n", "width_multiple: 2.0\n", 4, ["120000 channels"]),
        ("- [-1, 900, Conv, [8, 3]]\n- [-1, 900, Conv, [8, 3]]\n", "", 4, ["1800"]),
        ("- [-1, 1, Conv, [64, 1722, 1]]\n", "", 3, ["operations"]),
        ("- [-1, 1, Conv, [16, 3, 2]]\n- [-1, 1, Conv, [16, 314, 2]]\n", "", 4, ["this layer needs", "operations"]),
        ("- [-1, 1, Conv, [512, 63, 1]]\n", "", 3, ["this layer needs", "2e+11 are built"]),
        (
            "- [-1, 1, Conv, [16, 3, 2]]\n- [-1, 1, Conv, [16, 114, 2]]\n",
            "",
            4,
            ["more than 63 pixels"],
        ),
        ("- [-1, 1, Conv, [64, 3, 1]]\n- [-1, 1, nn.Upsample, [None, 5000]]\n", "", 4, ["values"]),
        ("- [-1, 1, Conv, [64, 3, 1]]\n- [-1, 91, nn.Upsample, [None, 2]]\n", "", 4, ["too many values to count"]),
    ],
)
def test_absurd_sizes_are_refused_with_their_line(
    tmp_path: Path, rows: str, top: str, line: int, words: list[str]
) -> None:
    model = write(tmp_path / "absurd.yaml", rows, f"nc: 3\n{top}")
    with pytest.raises(PlanError) as caught:
        detgraft.build(model)
    assert f"absurd.yaml, line {line}" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


SHIPPED = ("yolov3.yaml", "yolov5-p6.yaml", "yolov9e.yaml", "yolo11-seg.yaml", "rtdetr-x.yaml", "yolov8-world.yaml")


@pytest.mark.parametrize("names", [SHIPPED, pytest.param((), marks=pytest.mark.slow)], ids=["some", "all"])
def test_shipped_descriptions_are_within_the_bounds(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
    """Also when the exemption of stock files is taken away."""
    from ultralytics.nn import tasks

    known = (*stock_yamls(), *zoo_yamls())
    monkeypatch.setattr(bounds, "stock_yamls", dict)
    for name in names or known:
        mapping = tasks.yaml_model_load(name)
        if "backbone" not in mapping:
            continue
        for scale in list(mapping.get("scales") or ("",))[-1 if names else 0 :]:
            bounds.refuse_absurd({**mapping, "scale": scale}, 3)


def test_the_estimate_draws_no_random_numbers(tmp_path: Path) -> None:
    from ultralytics.nn import tasks

    mapping = tasks.yaml_model_load("rtdetr-l.yaml")
    state = torch.random.get_rng_state()
    bounds.refuse_absurd({**mapping, "yaml_file": "mine.yaml"}, 3)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("rows", "line", "words"),
    [
        (
            "- [-1, 1, Conv, [8, 3, 2]]\n- [-1, 1, nn.Linear, [3, 4]]\n",
            4,
            ["layer 1 (", "Linear", "fails on its input"],
        ),
        (
            "- [-1, 1, Conv, [8, 3, 2]]\n- [-1, 1, Conv, [8, 3, 2]]\n- [[0, 1], 1, Concat, [1]]\n",
            5,
            ["layer 2", "Concat"],
        ),
        ("- [-1, 1, Conv, [8, x]]\n", 3, ["'Conv'", "cannot be built"]),
    ],
)
def test_stock_rows_that_fail_are_named(tmp_path: Path, rows: str, line: int, words: list[str]) -> None:
    with pytest.raises(DetgraftError) as caught:
        detgraft.build(write(tmp_path / "broken.yaml", rows))
    assert f"broken.yaml, line {line}" in str(caught.value)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_dynamic_conv_and_carafe_export_with_dynamic_batch(tiny: Callable[[str], str], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = write(
        tmp_path / "both.yaml",
        "- [-1, 1, Conv, [16, 3, 2]]\n- [-1, 1, DynamicConv, [16, 3, 2]]\n"
        "- [-1, 1, DynamicConv_official, [32, 3, 2]]\n",
        head="head:\n- [-1, 1, CARAFE, []]\n- [-1, 1, CARAFE_official, []]\n- [[3, 2], 1, Detect, [nc]]\n",
    )
    figures = run_check(model, "export")["export"].figures["formats"]
    for form in ("torchscript", "onnx", "onnx-dynamic"):
        assert figures[form]["boxes_px"] < 0.01, figures
