"""Weights survive the surgery: layer by layer, bit by bit, with a report."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from expression_support import differing, files_below, run_cli, save_checkpoint
from torch import nn

from detgraft import YOLO, build
from detgraft.errors import ArgumentError, WeightsError
from detgraft.testing.contract import randomise_norms
from detgraft.upstream.model.transfer import report_of
from detgraft.weights.transfer import TransferReport


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock yolo11n with 80 classes whose batch norms look trained."""
    model = YOLO("yolo11n.yaml")
    randomise_norms(model.model)
    return save_checkpoint(model, tmp_path_factory.mktemp("source") / "yolo11n.pt")


@pytest.fixture(scope="module")
def stock(source: Path) -> Any:
    return YOLO(str(source)).model.float().eval()


@pytest.fixture(scope="module")
def carafe() -> Any:
    return YOLO("yolo11n+carafe")


def by_hand(key: str, layers: dict[int, int]) -> str | None:
    """The source's name of a target's tensor, from the layer numbers given."""
    found = re.match(r"model\.(\d+)\.(.+)", key)
    assert found is not None
    origin = layers.get(int(found[1]))
    return None if origin is None else f"model.{origin}.{found[2]}"


def transferred(model: nn.Module, stock: nn.Module, layers: dict[int, int]) -> tuple[int, int]:
    """Every tensor of equal name and shape must hold the source's bits; return how many did and how many there are."""
    theirs, own = stock.state_dict(), model.state_dict()
    count = 0
    for key, value in own.items():
        origin = by_hand(key, layers)
        if origin is not None and origin in theirs and theirs[origin].shape == value.shape:
            assert torch.equal(value, theirs[origin]), key
            count += 1
    return count, len(own)


# The layer of the stock yolo11n that each layer continues, read off the two YAMLs.
LAYERS = {
    "yolo11n+convnextv2_atto": {index: index + 4 for index in range(5, 20)},
    "yolo11n+timm/mobilenetv4_conv_small+carafe": {index: index + 4 for index in range(5, 20)},
    "yolo11n+carafe": {index: index for index in range(24)},
    "yolo11n+dynamicconv@head": {index: index for index in range(24)},
    "yolo11n+cbam": {
        **{i: i for i in range(5)},
        **{i: i - 1 for i in (6, 7)},
        **{i: i - 2 for i in (9, 10)},
        **{i: i - 3 for i in range(12, 27)},
    },
    "yolo11n-carafe.yaml": {index: index for index in range(24)},
    "yolo11n-convnextv2.yaml": {index: index + 4 for index in range(5, 20)},
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_tensor_that_fits_is_the_sources(name: str, source: Path, stock: Any) -> None:
    model = YOLO(name, transfer=source)
    count, total = transferred(model.model, stock, LAYERS[name])
    report = report_of(model.model)
    assert report is not None
    assert (report.transferred, report.total) == (count, total)
    origins = {layer.index: layer.origin for layer in report.layers if layer.status in ("transferred", "partly")}
    assert origins.items() <= LAYERS[name].items()
    assert origins


def test_the_rest_of_the_neck_is_complete_behind_a_backbone(source: Path, stock: Any) -> None:
    """Only what reads the backbone's other channels is new: SPPF's convolutions, and the first behind each Concat."""
    model = YOLO("yolo11n+convnextv2_atto", transfer=source).model
    theirs = stock.state_dict()
    layers = LAYERS["yolo11n+convnextv2_atto"]
    origins = {key: by_hand(key, layers) for key in model.state_dict()}
    differ = {
        key for key, origin in origins.items() if origin and model.state_dict()[key].shape != theirs[origin].shape
    }
    norm = {f"model.5.cv1.bn.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
    assert differ == norm | {f"model.{name}.conv.weight" for name in ("5.cv1", "5.cv2", "9.cv1", "12.cv1")}


def test_carafe_replaced_by_nearest_upsampling_gives_the_sources_outputs(source: Path, stock: Any) -> None:
    model = copy.deepcopy(YOLO("yolo11n+carafe", transfer=source).model).float().eval()
    for index in (11, 14):
        upsample = nn.Upsample(None, 2, "nearest")
        upsample.i, upsample.f, upsample.type = index, -1, "nn.Upsample"
        model.model[index] = upsample
    x = torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(1))
    x = x.contiguous(memory_format=torch.channels_last)  # as grafted models lay it out
    with torch.no_grad():
        found, expected = model(x)[0], stock(x)[0]
    assert found.abs().max() > 0
    assert torch.equal(found, expected)


def test_another_class_count_keeps_all_but_the_class_layer(source: Path, stock: Any) -> None:
    model: Any = build("yolo11n+carafe", nc=3)
    model.load(stock)
    theirs = stock.state_dict()
    missing = [k for k in differing(model.state_dict(), theirs) if k in theirs]
    # the class branch is as wide as the class count asks for, so all of it and nothing else differs
    assert missing
    assert all(key.startswith("model.23.cv3.") for key in missing)
    report = report_of(model)
    assert report is not None
    assert {layer.index for layer in report.layers if layer.status == "partly"} == {23}


def test_from_one_graft_to_another(source: Path, tmp_path: Path) -> None:
    first = YOLO("yolo11n+convnextv2_atto", transfer=source)
    save_checkpoint(first, tmp_path / "first.pt")
    second = YOLO("yolo11n+convnextv2_atto+carafe", transfer=tmp_path / "first.pt")
    theirs = YOLO(str(tmp_path / "first.pt")).model.float().state_dict()  # saved in half precision
    own = second.model.state_dict()
    kept = [key for key in theirs if key in own and own[key].shape == theirs[key].shape]
    assert len(kept) == len(theirs), "CARAFE takes the place of layers without weights"
    assert all(torch.equal(own[key], theirs[key]) for key in kept)
    back = YOLO("yolo11n.yaml")
    back.load(str(tmp_path / "first.pt"))
    stock = YOLO(str(source)).model.float().state_dict()
    assert not [k for k in differing(back.model.state_dict(), stock) if k.startswith(("model.10.", "model.22."))]


def test_the_report_names_each_layer(source: Path) -> None:
    report = YOLO("yolo11n+convnextv2_atto+c3k2_dynamicconv@head", transfer=source).transfer(source)
    by_index = {layer.index: layer for layer in report.layers}
    assert by_index[0].status == "new"
    assert by_index[0].origin is None
    assert by_index[1].status == "no weights"
    assert (by_index[6].status, by_index[6].module.rpartition(".")[2], by_index[6].origin) == (
        "transferred",
        "C2PSA",
        10,
    )
    assert (by_index[9].status, by_index[9].module) == ("partly", "C3k2_DynamicConv")
    text = "\n".join(report.lines())
    assert text.startswith(f"Weights from {source}: {report.transferred}/{report.total} tensors (")
    assert "  transferred: 6 C2PSA," in text
    assert "  new: 0 convnextv2_atto" in text
    assert f"9 C3k2_DynamicConv ({by_index[9].transferred}/{by_index[9].total})" in text


def test_transfer_min_fails_closed(source: Path) -> None:
    share = YOLO("yolo11n+convnextv2_atto").transfer(source).share
    assert 0.5 < share < 0.9
    fresh = YOLO("yolo11n+convnextv2_atto")
    before = {key: value.clone() for key, value in fresh.model.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        fresh.transfer(source, minimum=0.95)
    assert "transfer_min asks for 95%; layers without weights from it: 0 (convnextv2_atto)" in str(caught.value)
    assert f"({share:.0%})" in str(caught.value)
    assert differing(fresh.model.state_dict(), before) == []
    assert "pretrained" not in fresh.overrides


@pytest.mark.parametrize("minimum", [1.5, -0.1, "half", True])
def test_a_wrong_share(minimum: Any, source: Path, carafe: Any) -> None:
    with pytest.raises(ArgumentError, match="transfer_min is a share of tensors from 0 to 1"):
        carafe.transfer(source, minimum)


def test_a_stock_model_takes_a_transfer_too(source: Path, stock: Any) -> None:
    report: TransferReport = YOLO("yolo11n.yaml").transfer(source, minimum=1.0)
    assert report.share == 1.0


def test_a_checkpoint_has_its_weights(source: Path) -> None:
    with pytest.raises(ArgumentError, match="a checkpoint has its weights"):
        YOLO(str(source), transfer=source)


def test_files_that_are_no_checkpoint(source: Path, carafe: Any, tmp_path: Path) -> None:
    whole = source.read_bytes()
    (tmp_path / "truncated.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("just text", encoding="utf-8")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "tensors.pt")
    (tmp_path / "w.safetensors").write_bytes(b"")
    before = files_below(tmp_path)
    cases = {
        "truncated.pt": "cannot be opened as a checkpoint",
        "empty.pt": "cannot be opened as a checkpoint",
        "text.pt": "cannot be opened as a checkpoint",
        "tensors.pt": "cannot be opened as a checkpoint",
        "w.safetensors": "expected a checkpoint (.pt)",
        "gone/missing.pt": "there is no such checkpoint",
    }
    for name, words in cases.items():
        with pytest.raises(WeightsError) as caught:
            carafe.transfer(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert words in str(caught.value)
    assert files_below(tmp_path) == before


def test_the_command_line_refuses_before_anything_is_written(source: Path, tmp_path: Path) -> None:
    words = ("train", "model=yolo11n+convnextv2_atto", f"transfer={source}", "transfer_min=0.95", "data=nowhere.yaml")
    process = run_cli(*words, cwd=tmp_path)
    assert process.returncode == 2
    assert "transfer_min asks for 95%" in process.stderr
    assert files_below(tmp_path) == set()
