"""Pretrained weights see the pixels that they were trained on, through every way of keeping and moving a model."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import ultralytics
from PIL import Image
from safetensors.torch import save_file
from timm.data import resolve_data_config
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize
from ultralytics.utils import LOGGER

from detgraft import YOLO, build, show
from detgraft.blocks.backbones.input_scale import InputScale, as_text, from_text, stated_scale
from detgraft.blocks.backbones.timm_backbone import TimmBackbone
from detgraft.errors import ArgumentError, DetgraftError
from detgraft.upstream.release import capabilities
from detgraft.upstream.release.capabilities import HAS_SAFE_LOAD, ULTRALYTICS_VERSION
from detgraft.upstream.service.checkpoints import save_checkpoint
from detgraft.verify.subject import wake
from detgraft.weights.input_scale import fit_input

pytestmark = pytest.mark.trust

NAMES = ("test_efficientnet", "test_convnext")  # small; one pads its first convolution, one does not
BUS = Path(ultralytics.__file__).parent / "assets" / "bus.jpg"


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """Ultralytics' own picture as a detector gets it: RGB of 0..1."""
    with Image.open(BUS) as file:
        pixels = np.asarray(file.convert("RGB").resize((192, 256)))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module", params=NAMES)
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A timm name and a file of random weights in timm's layout."""
    torch.manual_seed(1)
    model = timm.create_model(request.param)
    for module in model.modules():  # statistics as after a training, so that padding and folding have something to miss
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            module.running_mean.normal_()
    path = tmp_path_factory.mktemp("weights") / f"{request.param}.safetensors"
    save_file(model.state_dict(), path)
    return request.param, path


def timms_pixels(name: str, picture: Tensor) -> Tensor:
    config = resolve_data_config({}, model=timm.create_model(name))
    return normalize(picture, list(config["mean"]), list(config["std"]))


def timms_features(name: str, path: Path, picture: Tensor) -> list[Tensor]:
    model = timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4) if "efficientnet" in name else None)
    whole = timm.create_model(name)
    timm.models.load_checkpoint(whole, str(path))
    model.load_state_dict(_as_extractor(whole, model))
    with torch.no_grad():
        found: list[Tensor] = model.eval()(timms_pixels(name, picture))
    return found


def _as_extractor(whole: nn.Module, model: nn.Module) -> dict[str, Tensor]:
    state = whole.state_dict()
    flat = {key.replace(".", "_", 1): value for key, value in state.items()}
    return {key: state[key] if key in state else flat[key] for key in model.state_dict()}


def features(model: Any, picture: Tensor) -> list[Tensor]:
    with torch.no_grad():
        found: list[Tensor] = model.model[0](picture)
    return found


def saved(model: Any, path: Path) -> None:
    """Save as a user does; 8.3.0 cannot save what was never loaded."""
    if ULTRALYTICS_VERSION == "8.3.0":
        save_checkpoint(model.model, path)
    else:
        model.save(path)


def assert_equal(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-5) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


def grafted(name: str, path: Path, more: str = "") -> Any:
    torch.manual_seed(0)
    return build(f"yolo11n+timm/{name}(weights={path}{more})", nc=3).eval()


def test_features_are_timms_own(published: tuple[str, Path], picture: Tensor) -> None:
    name, path = published
    model = grafted(name, path)
    expected = timms_features(name, path, picture)
    assert_equal(features(model, picture), expected)
    assert_equal(features(copy.deepcopy(model), picture), expected)
    assert_equal(features(copy.deepcopy(model).half().float(), picture), expected, 2e-2)
    assert_equal(features(model.fuse(verbose=False), picture), expected)


def test_the_real_weights_of_efficientnet_lite0(shared: Path, picture: Tensor) -> None:
    name, path = "tf_efficientnet_lite0", shared / "weights" / "tf_efficientnet_lite0.safetensors"
    model = grafted(name, path)
    net = timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4))
    timm.models.load_checkpoint(net, str(path), strict=False)
    with torch.no_grad():
        expected = net.eval()(timms_pixels(name, picture))
        wrong = net(picture)
    assert_equal(features(model, picture), expected)
    assert float((features(model, picture)[-1] - wrong[-1]).abs().max()) > 0.1  # what 0..1 would have given
    assert_equal(features(model.fuse(verbose=False), picture), expected)


def test_unit_switches_it_off(published: tuple[str, Path], picture: Tensor) -> None:
    name, path = published
    plain = grafted(name, path, ",input=unit")
    assert plain.model[0].input is None
    normalised = grafted(name, path)
    assert_equal(features(normalised, picture), features(plain, timms_pixels(name, picture)))
    assert normalised.state_dict().keys() == plain.state_dict().keys()
    assert not [key for key in normalised.state_dict() if ".input." in key]
    assert plain.yaml["backbone"][0][3] == ["input=unit"]


def test_fresh_weights_see_pixels_as_they_are() -> None:
    built: Any = build("yolo11n+timm/test_convnext", nc=3)
    assert built.model[0].input is None
    assert built.yaml["backbone"][0][3] == []


def test_every_way_of_keeping_a_model(published: tuple[str, Path], picture: Tensor, tmp_path: Path) -> None:
    name, path = published
    model = YOLO(f"yolo11n+timm/{name}(weights={path})")
    expected = timms_features(name, path, picture)
    saved(model, tmp_path / "kept.pt")
    model.overrides["model"] = str(tmp_path / "kept.pt")
    exported = model.export(format="safetensors")
    path.rename(path.with_suffix(".gone"))  # a kept model needs no weights file
    try:
        for kept in (tmp_path / "kept.pt", exported):
            opened: Any = YOLO(kept).model.eval()
            assert_equal(features(opened, picture), expected, 3e-3 if str(kept).endswith(".pt") else 1e-5)
            assert opened.model[0].input_scale == stated_scale(name, 3)
        again: Any = build(model.model.yaml, nc=80)  # what a trainer, a worker and `show --yaml` build from
        again.load(model.model, verbose=False)
        assert_equal(features(again.eval(), picture), expected)
    finally:
        path.with_suffix(".gone").rename(path)


def test_restricted_loading_keeps_it(published: tuple[str, Path], picture: Tensor) -> None:
    if not HAS_SAFE_LOAD:
        pytest.skip("this release or torch has no restricted loading")
    name, path = published
    model = grafted(name, path)
    content = io.BytesIO()
    torch.save(model.model[0].half(), content)
    content.seek(0)
    opened = torch.load(content, weights_only=True).float()
    assert opened.input_scale == stated_scale(name, 3)
    constants = torch.cat([opened.input.mean_C11, opened.input.deviation_C11], 1).flatten(1).T
    assert torch.equal(constants, torch.tensor(opened.input_scale))  # half precision has rounded the weights only


def test_a_checkpoint_of_before_keeps_its_meaning(published: tuple[str, Path], picture: Tensor) -> None:
    name, path = published
    backbone = grafted(name, path, ",input=unit").model[0]
    state = backbone.__getstate__()
    state["version"] = 1
    del state["attributes"]["input_scale"]
    former = TimmBackbone.__new__(TimmBackbone)
    former.__setstate__(state)
    assert former.input is None
    with torch.no_grad():
        assert_equal(former(picture), backbone(picture))
    state["version"] = 99
    with pytest.raises(DetgraftError, match="later detgraft"):
        TimmBackbone.__new__(TimmBackbone).__setstate__(state)


@pytest.mark.parametrize("form", ["torchscript", "onnx"])
def test_exports_normalise_too(published: tuple[str, Path], picture: Tensor, tmp_path: Path, form: str) -> None:
    if form == "onnx" and (missing := capabilities.onnx_export_misses()):
        pytest.skip(f"the ONNX export of Ultralytics {ULTRALYTICS_VERSION} needs {missing} on this torch")
    name, path = published
    model = YOLO(f"yolo11n+timm/{name}(weights={path})")
    wake(model.model, torch.rand(8, 3, 128, 128))  # in a fresh model the signal dies before the answer
    plain: Any = build(f"yolo11n+timm/{name}(weights={path},input=unit)").eval()
    plain.load_state_dict(model.model.state_dict())
    with torch.no_grad():
        expected, wrong = plain(timms_pixels(name, picture))[0], plain(picture)[0]
    tolerance = 1e-4 * float(expected.abs().max())
    assert float((wrong - expected).abs().max()) > 10 * tolerance
    model.overrides["model"] = str(tmp_path / "model.pt")
    model.model.pt_path = str(tmp_path / "model.pt")
    exported = str(model.export(format=form, imgsz=(256, 192)))
    if form == "onnx":
        runtime = pytest.importorskip("onnxruntime")
        session = runtime.InferenceSession(exported, providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: picture.numpy()})[0])
    else:
        found = torch.jit.load(exported)(picture)
        found = found[0] if isinstance(found, tuple) else found
    assert float((found - expected).abs().max()) <= tolerance


def test_a_transfer_carries_it(published: tuple[str, Path], picture: Tensor, tmp_path: Path) -> None:
    name, path = published
    source = YOLO(f"yolo11n+timm/{name}(weights={path})")
    saved(source, tmp_path / "source.pt")
    target = YOLO(f"yolo11n+timm/{name}+carafe", transfer=tmp_path / "source.pt")
    inner: Any = target.model
    assert inner.model[0].input_scale == stated_scale(name, 3)
    assert inner.yaml["backbone"][0][3] == [f"input={as_text(stated_scale(name, 3))}"]  # type: ignore[arg-type]
    assert_equal(features(inner.eval(), picture), features(YOLO(tmp_path / "source.pt").model.eval(), picture))
    unit = YOLO(f"yolo11n+timm/{name}")
    saved(unit, tmp_path / "unit.pt")
    back: Any = YOLO(f"yolo11n+timm/{name}(weights={path})", transfer=tmp_path / "unit.pt").model
    assert back.model[0].input_scale is None  # it has the other model's weights now


def test_show_says_which(published: tuple[str, Path]) -> None:
    name, path = published
    said = show(f"yolo11n+timm/{name}(weights={path})", imgsz=64).notes
    assert len(said) == 1
    assert "normalised inside the backbone, mean" in said[0]
    assert "pixels of 0..1" in show(f"yolo11n+timm/{name}(weights={path},input=unit)", imgsz=64).notes[0]
    assert show("yolo11n.yaml", imgsz=64).notes == []


def test_building_says_which(
    published: tuple[str, Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, path = published
    monkeypatch.setattr(LOGGER, "propagate", True)  # older releases keep their log to themselves
    grafted(name, path)
    assert any(
        "normalised inside the backbone" in r.getMessage() and "input=unit" in r.getMessage() for r in caplog.records
    )


@pytest.mark.parametrize("value", ["uint", "0.5", "0.5 0.5 0.5", "0.5 0.5 0.5/0 1 1", "0.5 0.5 nan/1 1 1", "1 1/1 1"])
def test_other_inputs_are_refused(value: str) -> None:
    with pytest.raises(ArgumentError, match=r"input= is 'unit' .* or 3 means"):
        build(f"yolo11n+timm/test_convnext(input={value})", nc=3)


def test_a_row_may_give_the_numbers(picture: Tensor) -> None:
    torch.manual_seed(0)
    built: Any = build("yolo11n+timm/test_convnext(input=0.1 0.2 0.3/0.4 0.5 0.6)", nc=3)
    assert built.model[0].input_scale == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert torch.equal(built.model[0].input(picture), normalize(picture, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]))


def test_other_numbers_of_channels() -> None:
    assert stated_scale("test_efficientnet", 4) == ((0.485, 0.456, 0.406, 0.485), (0.229, 0.224, 0.225, 0.229))
    grey = stated_scale("test_efficientnet", 1)
    assert grey is not None
    assert grey[0] == pytest.approx((0.449,))
    backbone = TimmBackbone(1, "test_convnext")
    said = fit_input(backbone, "own.pt", None)
    assert backbone.input is None
    assert said is not None
    assert "nothing is stated for 1 channels" in said


def test_constants_survive_precision_devices_and_pickles() -> None:
    scale = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    module = InputScale(scale)
    assert not module.state_dict()
    module = pickle.loads(pickle.dumps(copy.deepcopy(module).half())).float()
    assert torch.equal(module.mean_C11.flatten(), torch.tensor(scale[0]))
    assert module.double().deviation_C11.dtype == torch.float64
    assert float(module.deviation_C11[0]) == 0.229
    assert module.to("meta").mean_C11.is_meta
    assert from_text(as_text(scale), 3) == scale


def test_the_running_average_has_it(published: tuple[str, Path], picture: Tensor) -> None:
    from ultralytics.utils.torch_utils import ModelEMA

    name, path = published
    model = grafted(name, path).train()
    average = ModelEMA(model)
    average.update(model)
    assert_equal(features(average.ema, picture), timms_features(name, path, picture), 1e-4)
