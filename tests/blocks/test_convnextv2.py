from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from ops_reference import assert_close, read_triple, weights_of, without_gradient
from timm.layers import LayerNorm2d
from timm.layers.grn import GlobalResponseNorm
from torch import nn

from detgraft.blocks.backbones.convnext_fast import drawn_once
from detgraft.blocks.backbones.convnextv2 import DIMS, convnextv2, convnextv2_spec
from detgraft.blocks.backbones.timm_backbone import TimmBackbone, pyramid_channels
from detgraft.errors import ArgumentError, CatalogError
from detgraft.weights.backbone_files import convnextv2_to_timm, load_backbone_weights

PARAMETERS = {
    "atto": 3_386_760,
    "femto": 4_847_472,
    "pico": 8_552_256,
    "nano": 14_981_520,
    "tiny": 27_864_960,
    "base": 87_690_752,
    "large": 196_416_768,
    "huge": 657_467_008,
}


@pytest.mark.parametrize("size", PARAMETERS)
def test_parameters_and_channels(size: str) -> None:
    with torch.device("meta"):
        module = convnextv2(size, 3)
    assert sum(p.numel() for p in module.parameters()) == PARAMETERS[size]
    assert (module.channels, module.reductions) == (DIMS[size], (4, 8, 16, 32))


def test_width_factor() -> None:
    assert convnextv2("atto", 3, 0.25).channels == (10, 20, 40, 80)
    assert convnextv2("atto", 3, 0.5).channels == (20, 40, 80, 160)
    name, model_args = convnextv2_spec("femto", 1.5)
    assert pyramid_channels(name, 3, model_args)[0] == (72, 144, 288, 576)
    assert convnextv2_spec("femto", 1) == ("convnextv2_femto", {})


@pytest.mark.parametrize(("size", "width"), [("atto", 0.25), ("tiny", 0.1)])
def test_every_parameter_learns(size: str, width: float) -> None:
    module = convnextv2(size, 1, width)
    assert without_gradient(module, torch.randn(2, 1, 64, 64)) == []


def test_reproduces_the_norms(shared: Path) -> None:
    triple = read_triple(shared, "cnxv2_GRN")
    response = GlobalResponseNorm(12, channels_last=True)
    response.load_state_dict({"weight": triple["w/gamma"].reshape(-1), "bias": triple["w/beta"].reshape(-1)})
    assert_close(response(triple["input"]), triple["output"])
    triple = read_triple(shared, "cnxv2_LayerNorm_cf")
    norm = LayerNorm2d(10)
    norm.load_state_dict(weights_of(triple))
    assert_close(norm(triple["input"]), triple["output"])


@pytest.mark.parametrize("name", ["convnextv2_atto", "convnextv2_tiny"])
def test_reproduces_one_block(shared: Path, name: str) -> None:
    """Both of timm's forms: 1x1 convolutions in the small sizes, linear layers in the large ones."""
    triple = read_triple(shared, "cnxv2_Block")
    module = TimmBackbone(3, name, model_args={"dims": [16, 16, 16, 16], "depths": [1, 1, 1, 1]})
    block = module.net.stages_0.blocks[0]
    official = convnextv2_to_timm({f"stages.0.0.{key}": value for key, value in weights_of(triple).items()})
    target = block.state_dict()
    assert {f"stages.0.blocks.0.{key}" for key in target} == official.keys()
    block.load_state_dict({key: official[f"stages.0.blocks.0.{key}"].reshape(target[key].shape) for key in target})
    with torch.no_grad():
        assert_close(block(triple["input"]), triple["output"])


@pytest.mark.parametrize("name", ["convnextv2_atto", "convnextv2_tiny"])
def test_reproduces_the_features(shared: Path, tmp_path: Path, name: str) -> None:
    triple = read_triple(shared, "cnxv2_mini_features")
    state = weights_of(triple)
    depths = [len({key.split(".")[2] for key in state if key.startswith(f"stages.{s}.")}) for s in range(4)]
    module = TimmBackbone(3, name, model_args={"dims": [8, 16, 24, 32], "depths": depths}).eval()
    torch.save({"model": state}, tmp_path / "official.pth")
    load_backbone_weights(module, str(tmp_path / "official.pth"))
    with torch.no_grad():
        features = module(triple["input"])
    for i, feature in enumerate(features):
        assert_close(feature, triple[f"output{i}"])


def test_unknown_size() -> None:
    with pytest.raises(CatalogError, match=r"'nanno'.*Did you mean 'nano'"):
        convnextv2("nanno", 3)


@pytest.mark.parametrize(
    ("width", "words"),
    [(0.02, "without channels"), (0, "positive"), (-1, "positive"), (float("nan"), "positive"), ("1", "positive")],
)
def test_wrong_width(width: float, words: str) -> None:
    with pytest.raises(ArgumentError, match=rf"convnextv2_atto.*{words}"):
        convnextv2("atto", 3, width)


def test_every_weight_is_drawn_once_by_timms_rule() -> None:
    """The distributions are timm's, constants included; one seed gives one model."""
    torch.manual_seed(0)
    ours = convnextv2("pico", 3)
    torch.manual_seed(0)
    again = convnextv2("pico", 3).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in ours.state_dict().items())
    theirs = dict(timm.create_model("convnextv2_pico", features_only=True).named_parameters())
    found = dict(ours.net.named_parameters())
    assert found.keys() == theirs.keys()
    for key, expected in theirs.items():
        value = found[key]
        assert (value.shape, value.dtype, value.requires_grad) == (expected.shape, expected.dtype, True)
        if float(expected.std()) == 0:
            assert torch.equal(value, expected), key
        else:  # the smallest holds 3,072 numbers: a deviation that is 10 % off would be 8 standard errors away
            assert float(value.std()) == pytest.approx(0.02, rel=0.1), key
            assert abs(float(value.mean())) < 0.002, key


def test_a_model_with_other_parameters_is_not_left_undrawn() -> None:
    with pytest.raises(TypeError, match="BatchNorm2d"):
        drawn_once(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
