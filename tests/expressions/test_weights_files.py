"""Pretrained backbones: ``weights=imagenet`` without a network, ``weights=FILE``, and what is wrong with a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from expression_support import files_below, run_cli
from safetensors.torch import save_file
from torchvision.transforms.v2.functional import normalize

from detgraft import build
from detgraft.blocks.backbones.timm_backbone import TimmBackbone
from detgraft.errors import WeightsError
from detgraft.weights.hub import load_default_weights

NAME = "test_convnext"  # 0.2 million parameters


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty local cache of huggingface_hub."""
    folder = tmp_path_factory.mktemp("hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    return folder


def publish(cache: Path, name: str, **arguments: Any) -> torch.nn.Module:
    """Put made weights where huggingface_hub keeps what it has downloaded for a timm model."""
    torch.manual_seed(3)
    model = timm.create_model(name, **arguments)
    config = timm.get_pretrained_cfg(name)
    folder = cache / f"models--{config.hf_hub_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40, encoding="utf-8")
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(model.state_dict(), folder / "snapshots" / ("0" * 40) / "model.safetensors")
    return model


def assert_features_of(backbone: TimmBackbone, model: torch.nn.Module) -> None:
    x = torch.rand(1, 3, 64, 64)
    scale = backbone.input_scale
    pixels = x if scale is None else normalize(x, *map(list, scale))
    with torch.no_grad():
        expected = model.eval().forward_intermediates(pixels, intermediates_only=True)
        for a, b in zip(backbone.eval()(x), expected, strict=True):
            assert torch.equal(a, b)


def test_timms_weights_from_the_local_cache(cache: Path) -> None:
    model = publish(cache, NAME)
    backbone = TimmBackbone(3, NAME)
    state = torch.random.get_rng_state()
    said = load_default_weights(backbone)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_features_of(backbone, model)
    assert f"timm/{NAME}." in said
    assert f"licence {timm.get_pretrained_cfg(NAME).license}" in said


def test_imagenet_in_an_expression_prints_the_licence(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    publish(cache, NAME)
    built: Any = build(f"yolo11n+timm/{NAME}(weights=imagenet)", nc=3)
    assert any("licence apache-2.0" in record.getMessage() for record in caplog.records)
    # the file is left out, what its weights expect of the pixels stays
    assert built.yaml["backbone"][0] == [-1, 1, f"timm/{NAME}", ["input=0.5 0.5 0.5/0.5 0.5 0.5"]]
    expected = TimmBackbone(3, NAME)
    load_default_weights(expected)
    found = built.model[0].state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.state_dict().items())


def test_other_input_channels_are_timms_business(cache: Path) -> None:
    model = publish(cache, NAME)
    backbone = TimmBackbone(1, NAME)
    load_default_weights(backbone)
    stem = model.state_dict()["stem.0.weight"]
    assert torch.allclose(backbone.net.state_dict()["stem_0.weight"], stem.sum(1, keepdim=True))


@pytest.mark.parametrize("name", ["test_byobnet", "test_efficientnet", "test_resnet", "test_nfnet"])
def test_other_families_take_timms_weights(name: str, cache: Path) -> None:
    model = publish(cache, name)
    backbone = TimmBackbone(3, name)
    load_default_weights(backbone)
    own = backbone.net.state_dict()
    whole = list(model.state_dict().values())
    for key, value in own.items():
        assert any(value.shape == other.shape and torch.equal(value, other) for other in whole), key


@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "YOLO_OFFLINE"])
def test_offline_is_said_within_seconds(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "YOLO_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(switch, "1")
    before = files_below(Path())
    with pytest.raises(WeightsError) as caught:
        build("yolo11n+convnextv2_atto(weights=imagenet)")
    message = str(caught.value)
    assert "yolo11n+convnextv2_atto(weights=imagenet)" in message
    assert "timm/convnextv2_atto.fcmae_ft_in1k" in message
    assert f"cannot be downloaded: {switch} forbids it" in message
    assert "weights=FILE" in message
    assert files_below(Path()) == before


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "YOLO_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    asked: list[tuple[str, float]] = []

    def refuse(url: str, *, timeout: float, **_kwargs: Any) -> None:
        asked.append((url, timeout))
        raise TimeoutError("timed out")

    def only_the_cache(*_args: Any, local_files_only: bool = False, **_kwargs: Any) -> str:
        assert local_files_only, "nothing is downloaded from a hub that does not answer"
        raise FileNotFoundError("not in the cache")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", only_the_cache)
    start = time.monotonic()
    with pytest.raises(WeightsError, match="cannot be downloaded: timed out"):
        load_default_weights(TimmBackbone(3, NAME))
    assert len(asked) == 1
    assert asked[0][1] <= 5
    assert time.monotonic() - start < 60, "no waiting between attempts"


def test_another_width_is_refused_before_anything_is_downloaded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_a, **_k: pytest.fail("asked for a file"))
    with pytest.raises(WeightsError) as caught:
        build("yolo11n+convnextv2_atto(weights=imagenet,width=auto)")
    assert "with channels (40, 80, 160, 320); this model has channels (10, 20, 40, 80)" in str(caught.value)
    assert "set it to 1" in str(caught.value)
    with pytest.raises(WeightsError, match="as published"):
        build("yolo11n+repvit_m0_6(weights=imagenet)")  # a size that timm does not have


def test_a_model_without_published_weights() -> None:
    assert timm.get_pretrained_cfg("darknet17").hf_hub_id is None
    with pytest.raises(WeightsError, match="publishes no weights for darknet17; give a file with weights=FILE"):
        load_default_weights(TimmBackbone(3, "darknet17"))


def test_a_cached_file_of_another_model(cache: Path) -> None:
    publish(cache, NAME)
    folder = next(cache.rglob("model.safetensors"))
    save_file(timm.create_model("test_byobnet").state_dict(), folder)
    backbone = TimmBackbone(3, NAME)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(WeightsError, match="cannot be used"):
        load_default_weights(backbone)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights files of the right and of wrong kinds."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(1)
    state = timm.create_model(NAME).state_dict()
    save_file(state, folder / "right.safetensors")
    torch.save({"model": state}, folder / "right.pth")
    whole = (folder / "right.safetensors").read_bytes()
    (folder / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    whole = (folder / "right.pth").read_bytes()
    (folder / "truncated.pth").write_bytes(whole[: len(whole) // 2])
    (folder / "text.pth").write_text("not tensors", encoding="utf-8")
    save_file(timm.create_model("test_byobnet").state_dict(), folder / "other.safetensors")
    return folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.pth", "does not exist"),
        ("truncated.safetensors", "cannot be read as a weights file"),
        ("truncated.pth", "cannot be read as a weights file"),
        ("text.pth", "cannot be read as a weights file"),
        ("other.safetensors", f"is not for timm/{NAME}"),
    ],
)
@pytest.mark.parametrize("form", ["expression", "yaml"])
def test_a_wrong_weights_file(name: str, words: str, form: str, files: Path, tmp_path: Path) -> None:
    if form == "expression":
        model = f"yolo11n+timm/{NAME}(weights={files / name})"
        where = f"{model.replace(str(files / name), str(files / name))}.yaml"
    else:
        own = tmp_path / "own.yaml"
        rows = f'backbone:\n  - [-1, 1, timm/{NAME}, ["{(files / name).as_posix()}"]]\n'
        own.write_text(f"nc: 3\n{rows}head:\n  - [[2, 3, 4], 1, Detect, [nc]]\n", encoding="utf-8")
        model, where = str(own), f"{own}, line 3, layer 0"
    before = files_below(tmp_path)
    with pytest.raises(WeightsError) as caught:
        build(model)
    assert words in str(caught.value)
    assert str(files / name) in str(caught.value)
    assert str(caught.value).startswith(where), str(caught.value)
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_weights_file_fills_the_backbone(suffix: str, files: Path) -> None:
    built: Any = build(f"yolo11n+timm/{NAME}(weights={files / 'right'}.{suffix})", nc=3)
    reference = timm.create_model(NAME)
    reference.load_state_dict(torch.load(files / "right.pth", weights_only=True)["model"])
    assert_features_of(built.model[0], reference)


def test_a_file_for_another_width_is_refused_before_training(files: Path, tmp_path: Path) -> None:
    save_file(timm.create_model("convnextv2_atto").state_dict(), tmp_path / "atto.safetensors")
    words = (f"model=yolo11n+convnextv2_atto(width=0.5,weights={tmp_path / 'atto.safetensors'})", "data=nowhere.yaml")
    process = run_cli("train", *words, cwd=tmp_path)
    assert process.returncode == 2
    assert "expected shape (20, 3, 4, 4), found (40, 3, 4, 4)" in process.stderr
    assert files_below(tmp_path) == {"atto.safetensors"}
