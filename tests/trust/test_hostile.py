"""Every hostile file ends in one sentence: nothing in it runs, nothing is fetched, nothing half-written stays."""

from __future__ import annotations

import contextvars
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import ultralytics
from hostile import CASES, Call, Case
from trust_support import SMALL, written

import detgraft
from detgraft.blocks.backbones.timm_backbone import TimmBackbone
from detgraft.catalog.plugins import load_plugins
from detgraft.catalog.registry import catalogue
from detgraft.errors import DetgraftError, WeightsError
from detgraft.upstream.model.data import prepare_data
from detgraft.upstream.model.opening import SWITCH
from detgraft.upstream.model.transfer import open_checkpoint
from detgraft.weights.backbone_files import load_backbone_weights

pytestmark = pytest.mark.trust


def _small(**words: Any) -> Any:
    return detgraft.YOLO(written(SMALL), **words)


def _weights(path: Path) -> None:
    with torch.device("meta"):
        backbone = TimmBackbone(3, "resnet18")
    load_backbone_weights(backbone, str(path))


OPENERS: dict[str, Callable[[Path], Any]] = {
    "show": lambda path: detgraft.show(path, imgsz=64),
    "check": lambda path: detgraft.check(path, only=("shapes",)),
    "YOLO": lambda path: detgraft.YOLO(path),
    "transfer": lambda path: _small(transfer=path),
    "pretrained": lambda path: _small().train(data="nothing.yaml", pretrained=str(path), epochs=1),
    "resume": lambda path: _small().train(data="nothing.yaml", resume=str(path)),
    "weights": _weights,
    "data": lambda path: prepare_data(str(path), "detect", path.parent / "runs"),
    "plugin": lambda path: load_plugins(str(path)),
}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Note every attempt to reach the network, and let none succeed."""
    asked: list[Any] = []

    def refuse(*args: Any, **_kwargs: Any) -> Any:
        asked.append(args)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    yield asked
    assert not asked


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_hostile_file_ends_in_one_sentence(case: Case, tmp_path: Path) -> None:
    path = case.write(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    known = set(catalogue)
    with pytest.raises(DetgraftError) as caught:
        OPENERS[case.opened_by](path)
    text = str(caught.value)
    assert case.outcome in text
    assert "\n" not in text
    assert len(text) < 900
    assert path.name in text or path.parent.name in text or case.kind == "weights"
    assert not (tmp_path / "ran").exists()
    left = [entry for entry in tmp_path.rglob("*") if entry not in before and entry.name != "yolo11n-small.yaml"]
    assert not left
    assert set(catalogue) == known


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(CASES) >= 50
    assert len({case.name for case in CASES}) == len(CASES)
    assert {case.kind for case in CASES} == {
        "checkpoint", "weights", "safetensors", "model YAML", "data set", "plug-in"
    }  # fmt: skip


class Extra:
    """Harmless, and of no package that restricted loading knows."""


def _with_extra(path: Path) -> Path:
    model = _small()
    model.save(str(path))
    content = torch.load(path, weights_only=False)
    content["note"] = Extra()
    torch.save(content, path)
    return path


def test_a_file_that_needs_code_opens_with_the_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _with_extra(tmp_path / "own.pt")
    with pytest.raises(WeightsError, match="trust=True"):
        detgraft.YOLO(path)
    assert detgraft.YOLO(path, trust=True).model is not None
    assert detgraft.show(path, imgsz=64, trust=True).params > 0
    monkeypatch.setenv(SWITCH, "1")
    assert detgraft.show(path, imgsz=64).params > 0
    assert _small(transfer=path).transferred.share == 1


@pytest.mark.parametrize(("device", "opens"), [("0,1", True), ([0, 1], True), ("0", False), (None, False)])
def test_the_workers_of_a_training_trust_as_their_caller_does(
    device: Any, opens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes inherit the environment only, a thread of an empty context stands for one."""
    path = _with_extra(tmp_path / "own.pt")
    seen: list[bool] = []

    def worker() -> None:
        try:
            open_checkpoint(path)
            seen.append(True)
        except WeightsError:
            seen.append(False)

    def train(*_: Any, **__: Any) -> None:
        contextvars.Context().run(worker)

    model = detgraft.YOLO(path, trust=True)
    monkeypatch.setattr(ultralytics.engine.model.Model, "train", train)
    monkeypatch.setattr("detgraft.upstream.model.models.check_values", lambda *_: None)
    model.train(device=device)
    contextvars.Context().run(worker)
    assert seen == [opens, False]


def test_stock_opening_is_left_as_it_is(tmp_path: Path) -> None:
    assert ultralytics.YOLO(str(_with_extra(tmp_path / "own.pt"))).model is not None


def test_the_command_line_says_the_sentence_and_exits_with_2(tmp_path: Path) -> None:
    import os

    torch.save({"model": Call(os.mkdir, str(tmp_path / "ran"))}, tmp_path / "evil.pt")
    done = subprocess.run(
        [sys.executable, "-m", "detgraft.cli.main", "show", str(tmp_path / "evil.pt")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "opening it would run code: it needs posix.mkdir" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "ran").exists()


def test_good_weights_of_a_row_are_not_nan_or_whole_numbers(tmp_path: Path) -> None:
    backbone = TimmBackbone(3, "resnet18")
    state = {key: value.clone() for key, value in backbone.net.state_dict().items()}
    for name, change, said in (
        ("nan", lambda t: t * float("nan"), "not finite"),
        ("whole", lambda t: (t * 100).to(torch.int8), "is int8, expected float32"),
    ):
        torch.save({**state, "conv1.weight": change(state["conv1.weight"])}, tmp_path / f"{name}.pth")
        before = backbone.net.conv1.weight.clone()
        with pytest.raises(WeightsError, match=said):
            load_backbone_weights(backbone, str(tmp_path / f"{name}.pth"))
        assert torch.equal(backbone.net.conv1.weight, before)


@pytest.mark.parametrize(
    "name", ["a+b", "a b", "a@head", "1a", "", "a,b", "a(b)", "x.yaml", "timm/own", "nn.Own", "名", "a/b/c"]
)
def test_a_name_that_no_expression_can_hold_is_not_registered(name: str) -> None:
    class Own(torch.nn.Module):
        def __init__(self, c1: int) -> None:
            super().__init__()

    known = set(catalogue)
    for words in ({"name": name}, {"name": "trust_fine", "aliases": (name,)}):
        with pytest.raises(DetgraftError, match="name"):
            detgraft.register(channels="same", **words)(Own)
    assert set(catalogue) == known


def test_looking_at_a_model_fetches_nothing(no_network: list[Any]) -> None:
    detgraft.show("yolo11n+convnextv2_atto(weights=imagenet)", imgsz=64)
    text = SMALL.replace("[-1, 1, Conv, [64, 3, 2]]", "[-1, 1, TorchVision, [64, resnet18, DEFAULT, True, 7]]")
    detgraft.show(written(text), imgsz=64)
    assert not no_network
