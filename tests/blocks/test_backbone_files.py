from __future__ import annotations

import argparse
import copy
import re
from pathlib import Path

import pytest
import timm
import torch
from ops_reference import randomise_norms
from safetensors.torch import save_file
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from detgraft.blocks.backbones.convnext_fast import FastConvNeXtBlock
from detgraft.blocks.backbones.timm_backbone import TimmBackbone
from detgraft.errors import WeightsError
from detgraft.weights.backbone_files import load_backbone_weights

CONVNEXT = ("convnextv2_atto", {"dims": [8, 12, 16, 20], "depths": [1, 2, 2, 1]})
LINEAR_CONVNEXT = ("convnextv2_tiny", CONVNEXT[1])
REPVIT = ("repvit_m0_9", {"embed_dim": [8, 16, 24, 32], "depth": [1, 2, 3, 1]})
State = dict[str, Tensor]


def whole_model(spec: tuple[str, dict[str, object]], **extra: object) -> nn.Module:
    """The source: timm's complete classifier, every tensor made distinct."""
    torch.manual_seed(1)
    model = timm.create_model(spec[0], **spec[1], **extra).eval()
    randomise_norms(model, seed=1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def target_of(spec: tuple[str, dict[str, object]]) -> TimmBackbone:
    torch.manual_seed(2)
    return TimmBackbone(3, spec[0], model_args=spec[1]).eval()


def official_convnext(state: State) -> State:
    """timm's names to those of models/convnextv2.py."""
    renamed = {}
    for key, value in state.items():
        name = re.sub(r"^stem\.", "downsample_layers.0.", key)
        name = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", name)
        name = re.sub(r"^stages\.(\d)\.blocks\.", r"stages.\1.", name)
        name = name.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        name = name.replace("mlp.grn.weight", "grn.gamma").replace("mlp.grn.bias", "grn.beta")
        name = name.replace("head.norm", "norm").replace("head.fc", "head")
        if "grn" in name:
            value = value.reshape(1, 1, 1, -1)
        if "pwconv" in name and name.endswith("weight"):
            value = value.flatten(1)
        renamed[name] = value.contiguous()
    return renamed


def official_fcmae(state: State) -> State:
    """The dense official names to those of models/fcmae.py with its sparse encoder."""
    renamed: State = {"mask_token": torch.zeros(1, 512, 1, 1), "pred.bias": torch.zeros(3), "proj.bias": torch.zeros(5)}
    renamed["decoder.0.dwconv.weight"] = torch.zeros(512, 1, 7, 7)
    for key, value in state.items():
        if key.startswith(("norm.", "head.")):
            continue
        name = f"encoder.{key}"
        dense = key.startswith("downsample_layers.0.")
        if not dense and value.dim() == 4 and "grn" not in key:
            name = name.removesuffix("weight") + "kernel"
            columns_first = value.transpose(2, 3).flatten(2)  # (out, in, positions)
            value = columns_first[:, 0].t() if "dwconv" in key else columns_first.permute(2, 1, 0)
        elif re.search(r"\.norm\.|layers\.[1-3]\.0\.", key):
            name = re.sub(r"\.(weight|bias)$", r".ln.\1", name)
        elif "pwconv" in key:
            name = re.sub(r"\.(weight|bias)$", r".linear.\1", name)
        elif "grn" in key or (name.endswith("bias") and not dense):
            value = value.reshape(1, -1)
        renamed[name] = value.contiguous()
    return renamed


def official_repvit(state: State, depth: list[int], distilled: bool) -> State:
    """timm's names to those of model/repvit.py, whose blocks are one flat list."""
    blocks = {}
    for stage, count in enumerate(depth):
        if stage:
            blocks[f"stages.{stage}.downsample.pre_block."] = len(blocks) + 1
            blocks[f"stages.{stage}.downsample."] = len(blocks) + 1
        for i in range(count):
            blocks[f"stages.{stage}.blocks.{i}."] = len(blocks) + 1
    parts = {
        "token_mixer.": "token_mixer.0.",
        "se.": "token_mixer.1.",
        "channel_mixer.conv1.": "channel_mixer.m.0.",
        "channel_mixer.conv2.": "channel_mixer.m.2.",
        "spatial_downsample.": "token_mixer.0.",
        "channel_downsample.": "token_mixer.2.",
        "ffn.conv1.": "channel_mixer.m.0.",
        "ffn.conv2.": "channel_mixer.m.2.",
    }
    renamed = {}
    for key, value in state.items():
        home = next((h for h in blocks if key.startswith(h)), None)
        if home is not None:
            rest = key.removeprefix(home)
            part = next(p for p in parts if rest.startswith(p))
            renamed[f"features.{blocks[home]}.{parts[part]}{rest.removeprefix(part)}"] = value
        elif key.startswith("stem."):
            renamed[key.replace("stem.conv1.", "features.0.0.").replace("stem.conv2.", "features.0.2.")] = value
        elif distilled or "head_dist" not in key:
            name = key.replace("head.head_dist.", "classifier.classifier_dist.")
            renamed[name.replace("head.head.", "classifier.classifier.")] = value
    return renamed


def assert_same_features(module: TimmBackbone, model: nn.Module) -> None:
    """Bit for bit, with timm's own forward: the fast form's rounding is the business of tests/kernels."""
    module = copy.deepcopy(module)
    for block in module.modules():
        if type(block) is FastConvNeXtBlock:
            block.__class__ = ConvNeXtBlock
    x = torch.randn(1, 3, 64, 64).contiguous(memory_format=torch.channels_last)  # as the module itself lays it out
    with torch.no_grad():
        found, expected = module(x), model.forward_intermediates(x, intermediates_only=True)
    assert len(found) == 4
    for a, b in zip(found, expected[-4:], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("spec", [CONVNEXT, LINEAR_CONVNEXT, REPVIT, ("test_efficientnet", {}), ("test_byobnet", {})])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_timm_layout(spec: tuple[str, dict[str, object]], suffix: str, tmp_path: Path) -> None:
    model, path = whole_model(spec), tmp_path / f"weights{suffix}"
    state = model.state_dict()
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, path)
    else:
        save_file(state, path)
    module = target_of(spec)
    load_backbone_weights(module, str(path))
    assert_same_features(module, model)


def test_timm_layout_of_a_model_that_its_extractor_keeps_whole(tmp_path: Path) -> None:
    model = whole_model(("hieradet_small", {"embed_dim": 16, "num_heads": 1, "stages": [1, 1, 1, 1]}))
    torch.save(model.state_dict(), tmp_path / "w.pth")
    module = TimmBackbone(3, "hieradet_small", model_args={"embed_dim": 16, "num_heads": 1, "stages": [1, 1, 1, 1]})
    load_backbone_weights(module.eval(), str(tmp_path / "w.pth"))
    assert_same_features(module, model)


@pytest.mark.parametrize("spec", [CONVNEXT, LINEAR_CONVNEXT])
@pytest.mark.parametrize("layout", ["classifier", "fcmae"])
def test_official_convnextv2(spec: tuple[str, dict[str, object]], layout: str, tmp_path: Path) -> None:
    model = whole_model(spec)
    state = official_convnext(model.state_dict())
    if layout == "fcmae":
        state = official_fcmae(state)
    torch.save({"model": state, "epoch": 1, "args": argparse.Namespace(lr=0.1)}, tmp_path / "official.pth")
    module = target_of(spec)
    load_backbone_weights(module, str(tmp_path / "official.pth"))
    assert_same_features(module, model)


@pytest.mark.parametrize("distilled", [False, True])
def test_official_repvit(distilled: bool, tmp_path: Path) -> None:
    model = whole_model(REPVIT)
    depth = REPVIT[1]["depth"]
    assert isinstance(depth, list)
    torch.save({"model": official_repvit(model.state_dict(), depth, distilled)}, tmp_path / "official.pth")
    module = target_of(REPVIT)
    load_backbone_weights(module, str(tmp_path / "official.pth"))
    assert_same_features(module, model)


def test_half_precision_files_and_targets_keep_the_targets_dtype(tmp_path: Path) -> None:
    model = whole_model(CONVNEXT)
    torch.save(model.half().state_dict(), tmp_path / "half.pth")
    module = target_of(CONVNEXT)
    load_backbone_weights(module, str(tmp_path / "half.pth"))
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert_same_features(module, model.float())


def refused(module: TimmBackbone, path: Path) -> str:
    """The error's message; the module must be as before."""
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_backbone_weights(module, str(path))
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_unreadable_files(suffix: str, tmp_path: Path) -> None:
    path, module = tmp_path / f"w{suffix}", target_of(CONVNEXT)
    assert "does not exist" in refused(module, path)
    state = whole_model(CONVNEXT).state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"just text"):
        path.write_bytes(content)
        assert "cannot be read as a weights file" in refused(module, path)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model": Malicious()}, "cannot be read"),
        ([1, 2], "holds a list"),
        ({"model": {"epoch": 3}}, "holds no tensors, only 'epoch'"),
        ({}, "holds no tensors"),
    ],
)
def test_files_without_weights(content: object, words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    assert words in refused(target_of(CONVNEXT), tmp_path / "w.pth")
    assert not Path("ran").exists()


def test_another_architecture(tmp_path: Path) -> None:
    torch.save(whole_model(REPVIT).state_dict(), tmp_path / "repvit.pth")
    message = refused(target_of(CONVNEXT), tmp_path / "repvit.pth")
    assert "not for timm/convnextv2_atto" in message
    assert "missing, such as 'stem_0.weight'" in message


def test_a_deeper_model_of_the_same_width(tmp_path: Path) -> None:
    deeper = (CONVNEXT[0], {**CONVNEXT[1], "depths": [1, 2, 3, 1]})
    torch.save(whole_model(deeper).state_dict(), tmp_path / "deeper.pth")
    assert "'stages.2.blocks.2.conv_dw.bias'" in refused(target_of(CONVNEXT), tmp_path / "deeper.pth")


def test_another_width(tmp_path: Path) -> None:
    wider = (CONVNEXT[0], {**CONVNEXT[1], "dims": [16, 24, 32, 40]})
    torch.save(official_convnext(whole_model(wider).state_dict()), tmp_path / "wider.pth")
    message = refused(target_of(CONVNEXT), tmp_path / "wider.pth")
    assert "stem_0.weight expected shape (8, 3, 4, 4), found (16, 3, 4, 4)" in message
    assert "width" in message


def test_a_fused_backbone(tmp_path: Path) -> None:
    torch.save(whole_model(REPVIT).state_dict(), tmp_path / "w.pth")
    assert "before it is fused" in refused(target_of(REPVIT).fuse(), tmp_path / "w.pth")
