"""Weights that something else computes (pruning, norms of weights, hooks) reach every block and survive fusing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import spectral_norm

from detgraft.blocks.backbones.timm_backbone import TimmBackbone
from detgraft.blocks.deform_conv import DeformConvBNAct
from detgraft.blocks.dynamic_conv import DynamicConv, DynamicConvBNAct
from detgraft.blocks.odconv import ODConvBNAct
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.testing.contract import randomise_norms

pytestmark = pytest.mark.trust


def halve(module: nn.Module) -> None:
    prune.l1_unstructured(module, "weight", amount=0.5)


@pytest.mark.parametrize("prepare", [halve, spectral_norm])
@pytest.mark.parametrize(
    ("kind", "holder"),
    [
        (ConvNormAct, "conv"),
        (DynamicConvBNAct, "conv.cond_conv"),
        (ODConvBNAct, "conv"),
        (DeformConvBNAct, "conv"),
    ],
)
def test_fusing_never_loses_a_batch_norm(
    kind: Callable[..., Any], holder: str, prepare: Callable[[nn.Module], Any]
) -> None:
    torch.manual_seed(0)
    block = kind(8, 12, 3)
    randomise_norms(block)
    prepare(block.get_submodule(holder))
    x = torch.randn(2, 8, 9, 9)
    block.train()(x)  # norms of weights settle
    block.eval()
    with torch.no_grad():
        expected = block(x)
        assert torch.allclose(block.fuse()(x), expected, atol=1e-5)


def test_a_pruned_expert_stays_pruned() -> None:
    torch.manual_seed(0)
    block = DynamicConv(4, 4, 3)
    prune.custom_from_mask(block.cond_conv, "weight", torch.zeros_like(block.cond_conv.weight))
    assert float(block(torch.randn(2, 4, 6, 6)).abs().max()) == 0.0


def test_a_hook_on_the_fast_block_s_parts_is_called() -> None:
    """The fast form of ConvNeXt V2 gives way wherever somebody looks at, or changes, a part of the block."""
    torch.manual_seed(0)
    backbone = TimmBackbone(3, "convnextv2_atto").eval()
    block = next(module for module in backbone.modules() if type(module).__name__ == "FastConvNeXtBlock")
    for name, part in block.named_modules():
        calls: list[str] = []
        handle = part.register_forward_hook(lambda *_, name=name, calls=calls: calls.append(name))
        with torch.no_grad():
            backbone(torch.rand(1, 3, 64, 64))
        handle.remove()
        assert len(calls) == 1, f"the hook on '{name}' ({type(part).__name__}) is not called"
