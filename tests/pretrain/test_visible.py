"""The fast form must equal the dense reference form, forward and backward."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from pretrain_support import randomise
from torch import Tensor

from detgraft.blocks.backbones.timm_backbone import TimmBackbone
from detgraft.pretraining.backbones import build_backbone
from detgraft.pretraining.cpu_products import linear
from detgraft.pretraining.fcmae import FCMAE
from detgraft.pretraining.masking import random_mask
from detgraft.pretraining.visible import computable


def both_forms(backbone: TimmBackbone, ratio: float = 0.6) -> tuple[FCMAE, FCMAE]:
    fast = FCMAE(backbone, ratio)
    randomise(fast)
    slow = copy.deepcopy(fast)
    slow.dense, slow.visible_only = True, False
    return fast, slow


def worst(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(
    ("name", "width", "ratio"),
    [("convnextv2_atto", 1.0, 0.6), ("convnextv2_tiny", 0.25, 0.6), ("convnextv2_atto", 0.3, 0.25)],
    ids=["1x1 convolutions", "linear layers", "few hidden"],
)
def test_visible_only_equals_dense(name: str, width: float, ratio: float) -> None:
    torch.manual_seed(0)
    fast, slow = both_forms(build_backbone(name, width), ratio)
    assert fast.visible_only
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 96, 160, generator=generator)
    mask = random_mask(2, 15, ratio, generator)
    assert worst(fast.encode(images, mask), slow.encode(images, mask)) < 1e-5
    losses = fast(images, mask), slow(images, mask)
    assert abs(float(losses[0] - losses[1])) < 1e-5 * float(losses[1])
    for loss in losses:
        loss.backward()
    for (key, ours), theirs in zip(fast.named_parameters(), slow.parameters(), strict=True):
        assert ours.grad is not None, key
        assert theirs.grad is not None, key
        assert worst(ours.grad, theirs.grad) < 1e-5, key


def test_layer_scale_and_stochastic_depth_are_kept() -> None:
    backbone = TimmBackbone(3, "convnext_tiny", model_args={"dims": [8, 16, 24, 32], "depths": [1, 1, 2, 1]})
    fast, slow = both_forms(backbone)
    assert fast.visible_only
    images, mask = torch.rand(2, 3, 96, 96), random_mask(2, 9, 0.6, torch.Generator().manual_seed(0))
    assert worst(fast.encode(images, mask), slow.encode(images, mask)) < 1e-5


def test_other_backbones_take_the_dense_encoder_and_the_short_decoder() -> None:
    torch.manual_seed(0)
    fast, slow = both_forms(build_backbone("repvit_m0_6", 0.4))
    assert not fast.visible_only
    images, mask = torch.rand(2, 3, 96, 96), random_mask(2, 9, 0.6, torch.Generator().manual_seed(0))
    losses = fast(images, mask), slow(images, mask)
    assert abs(float(losses[0] - losses[1])) < 1e-5 * float(losses[1])
    for loss in losses:
        loss.backward()
    for (key, ours), theirs in zip(fast.named_parameters(), slow.parameters(), strict=True):
        assert ours.grad is not None, key
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-4 * float(theirs.grad.abs().max()) + 1e-7), key


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny_hnf", "convnextv2_atto.fcmae"])
def test_computable_looks_at_every_layer(name: str) -> None:
    assert computable(TimmBackbone(3, name)) == (name != "resnet18")


def test_a_changed_layer_is_noticed() -> None:
    backbone = build_backbone("convnextv2_atto", 0.3)
    block = backbone.net.get_submodule("stages_1.blocks.0")
    block.conv_dw = torch.nn.Conv2d(24, 24, 7, padding=6, dilation=2, groups=24)
    assert not computable(backbone)


@pytest.mark.parametrize("with_bias", [True, False])
def test_linear_equals_torch_with_gradients(with_bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 7, generator=generator).requires_grad_()
    weight = torch.randn(6, 7, generator=generator).requires_grad_()
    bias = torch.randn(6, generator=generator).requires_grad_() if with_bias else None
    inputs = [x, weight] if bias is None else [x, weight, bias]
    factor = torch.randn(2, 5, 6, generator=generator)
    ours, theirs = linear(x, weight, bias), F.linear(x, weight, bias)
    assert torch.allclose(ours, theirs, atol=1e-5)
    gradients = (torch.autograd.grad((y * factor).sum(), inputs) for y in (ours, theirs))
    for mine, other in zip(*gradients, strict=True):
        assert torch.allclose(mine, other, atol=1e-5)


def test_autocast_is_honoured() -> None:
    x, weight = torch.randn(4, 8), torch.randn(6, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
