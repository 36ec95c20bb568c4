"""Cost is counted as by hand; data problems are found with file and line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import deform_conv2d
from verify_support import run_check

from detgraft.demo.made import make_shapes
from detgraft.measure.flops import flop_counter
from detgraft.measure.memory import peak_bytes
from detgraft.measure.timing import Latency
from detgraft.verify.checks import price


@pytest.mark.parametrize("mask", [True, False])
def test_deform_conv_is_counted(mask: bool) -> None:
    x, weight = torch.randn(2, 6, 9, 7), torch.randn(10, 3, 3, 3)
    offset = torch.zeros(2, 18, 9, 7)
    with flop_counter() as counter:
        deform_conv2d(x, offset, weight, padding=1, mask=torch.ones(2, 9, 9, 7) if mask else None)
    convolution = 2 * 2 * 10 * 3 * 9 * 9 * 7  # multiply and add, batch, out, in per group, kernel, pixels
    samples = 2 * 6 * 9 * 9 * 7 * (8 if mask else 7)
    assert counter.get_total_flops() == convolution + samples


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_is_counted(device: str) -> None:
    query = torch.zeros(2, 4, 20, 16, device=device)
    with flop_counter() as counter:
        nn.functional.scaled_dot_product_attention(query, query, query)
    assert counter.get_total_flops() == 2 * (2 * 2 * 4 * 20 * 20 * 16)


def test_peak_memory_of_a_known_chain() -> None:
    a = torch.ones(1000, 1000)  # 4 MB

    def run() -> None:
        b = a * 2
        c = b * 2  # a, b and c are alive here: 12 MB
        del b
        d = c * 2  # a, c and d
        del c, d

    assert peak_bytes(run, [a]) == 12_000_000


def test_cost_is_given_with_the_difference_to_the_base() -> None:
    report = run_check("yolo11n+carafe", "cost")
    figures = report["cost"].figures
    assert report.passed, report["cost"].reason
    assert figures["base"] == "yolo11n.yaml"
    assert figures["difference"]["params"] == 74_312 + 66_120
    assert figures["gflops"] > figures["difference"]["gflops"] > 0
    assert figures["training_memory_mb"] > 4 * figures["params"] * 2 / 1e6  # weights and gradients at least
    assert {f"{kind} batch {n}" for kind in ("eager", "fused") for n in (1, 16)} <= set(figures["latency_ms"])


@pytest.mark.trust
def test_latencies_that_did_not_settle_are_named(tiny: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([True, False, True, None] + [True] * 9)
    monkeypatch.setattr(price, "forward_latency", lambda *args: Latency(7.0, 5, 0.0, next(taken)))
    monkeypatch.setattr(price, "has", lambda package: False)
    result = run_check(tiny(), "cost")["cost"]
    assert result.figures["latency_ms"]["eager batch 16"] == 7.0
    assert "not settled when they were taken, and say little: eager batch 16" in result.reason
    assert "fused" not in result.reason


@pytest.mark.trust
def test_the_difference_of_latency_is_taken_in_turns_on_the_device_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was taken on the processor where all other latencies were a GPU's, one model after the other."""
    asked = {}

    def in_turns(models: dict[str, Any], pictures: torch.Tensor) -> dict[str, Latency]:
        asked.update(dict.fromkeys(models, str(pictures.device)))
        return {name: Latency(ms, 5, 0.0, ms > 6) for name, ms in zip(models, (5.0, 9.0), strict=True)}

    monkeypatch.setattr(price, "forward_latency", lambda *args: Latency(7.0, 5, 0.0, True))
    monkeypatch.setattr(price, "forward_latencies", in_turns)
    monkeypatch.setattr(price, "has", lambda package: False)
    monkeypatch.setattr(price, "_training_memory", lambda subject: 0)
    monkeypatch.setattr(price, "_device", lambda: "meta")
    result = run_check("yolo11n+simam", "cost")["cost"]
    assert asked == {"yolo11n.yaml": "meta", "grafted": "meta"}
    assert result.figures["latency_ms"]["device"] == "meta"
    assert result.figures["difference"]["fused_ms_batch_1"] == 4.0
    assert "not settled when they were taken, and say little: yolo11n.yaml, in turns" in result.reason


@pytest.fixture(scope="module")
def good_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "set", train=3, val=2, imgsz=64, seed=1)


def test_a_good_data_set_passes(good_set: Path, tiny: Callable[[str], str]) -> None:
    result = run_check(tiny(), "data", data=str(good_set))["data"]
    assert result.status == "pass", result
    assert result.figures["train"]["pictures"] == 3
    assert result.figures["classes"] == result.figures["classes_of_model"] == 3


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("0 0.9 0.5 0.4 0.2", ["reaches outside", "line 1"]),
        ("0 0.5 0.5 0 0.2", ["is empty", "line 1"]),
        ("7 0.5 0.5 0.2 0.2", ["class", "7", "line 1"]),
    ],
)
def test_bad_labels_are_found(
    good_set: Path, tmp_path: Path, tiny: Callable[[str], str], row: str, words: list[str]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(good_set.parent, folder)
    label = sorted((folder / "labels" / "train").glob("*.txt"))[0]
    label.write_text(row + "\n", "utf-8")
    result = run_check(tiny(), "data", data=str(folder / good_set.name))["data"]
    assert result.status == "fail"
    for word in [*words, label.name]:
        assert word in result.reason, (word, result.reason)


def test_leakage_copies_and_missing_labels_are_found(
    good_set: Path, tmp_path: Path, tiny: Callable[[str], str]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(good_set.parent, folder)
    pictures, labels = folder / "images", folder / "labels"
    first, second = sorted((pictures / "train").iterdir())[:2]
    shutil.copy(first, pictures / "val" / f"leaked{first.suffix}")
    shutil.copy(second, pictures / "train" / f"again{second.suffix}")
    label = labels / "train" / f"{second.stem}.txt"
    label.write_text(label.read_text("utf-8") * 2, "utf-8")
    result = run_check(tiny(), "data", data=str(folder / good_set.name))["data"]
    assert result.status == "fail"
    for word in ("the same picture is in train and val", f"leaked{first.suffix}", "label rows are doubled"):
        assert word in result.reason, (word, result.reason)
    assert "2 pictures have no labels" in result.reason  # the two copies came without theirs
    assert "1 pictures are copies" in result.reason
