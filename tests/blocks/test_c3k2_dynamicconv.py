from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ops_reference import (
    assert_close,
    batch_norms,
    load_exactly,
    randomise_norms,
    read_triple,
    weights_of,
    without_gradient,
)
from torch import nn

from detgraft.blocks.c3k2_dynamicconv import C3k2_DynamicConv, C3k2_DynamicConvBNAct, DynamicBottleneck
from detgraft.blocks.dynamic_conv import DynamicConv

FORMS = [C3k2_DynamicConv, C3k2_DynamicConvBNAct]


def test_reproduces_the_bottleneck(shared: Path) -> None:
    triple = read_triple(shared, "dynconv_Bottleneck")
    block = DynamicBottleneck(8, 8).eval()
    load_exactly(block, weights_of(triple))
    with torch.no_grad():
        assert_close(block(triple["input"]), triple["output"])


def test_reproduces_the_block(shared: Path) -> None:
    triple = read_triple(shared, "dynconv_C3k2")
    block = C3k2_DynamicConv(16, 24, n=2, e=0.25).eval()
    load_exactly(block, weights_of(triple))
    with torch.no_grad():
        assert_close(block(triple["input"]), triple["output"])
        assert_close(block.fuse()(triple["input"]), triple["output"])
    assert not batch_norms(block)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("c3k", [False, True])
def test_fuses_every_norm_and_agrees(form: type[C3k2_DynamicConv], c3k: bool) -> None:
    torch.manual_seed(0)
    block = form(16, 16, n=2, c3k=c3k).eval()
    randomise_norms(block)
    x = torch.randn(2, 16, 7, 6)
    with torch.no_grad():
        before = block(x)
        assert block.fuse() is block
        once = block(x)
        assert_close(once, before)
        assert torch.equal(block.fuse()(x), once)
    assert not batch_norms(block)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("c3k", [False, True])
def test_every_parameter_learns(form: type[C3k2_DynamicConv], c3k: bool) -> None:
    assert without_gradient(form(8, 12, n=2, c3k=c3k), torch.randn(2, 8, 6, 6)) == []


def test_the_official_form_adds_a_norm_after_every_dynamic_convolution() -> None:
    tutorial, official = C3k2_DynamicConv(16, 16, c3k=True), C3k2_DynamicConvBNAct(16, 16, c3k=True)
    convolutions = sum(isinstance(m, DynamicConv) for m in tutorial.modules())
    assert convolutions == 2
    assert len(batch_norms(official)) == len(batch_norms(tutorial)) + convolutions
    assert all(isinstance(unit.cv2.act, nn.SiLU) for unit in official.m[0].m)


@pytest.mark.parametrize("form", FORMS)
def test_shortcut_can_be_left_out(form: type[C3k2_DynamicConv]) -> None:
    with_shortcut, without = form(8, 8), form(8, 8, shortcut=False)
    without.load_state_dict(with_shortcut.state_dict())
    x = torch.randn(1, 8, 4, 4)
    assert with_shortcut.eval()(x).shape == (1, 8, 4, 4)
    assert not torch.equal(with_shortcut(x), without.eval()(x))


def test_groups_reach_the_dynamic_convolution() -> None:
    block = C3k2_DynamicConv(16, 16, g=2)
    assert block.m[0].cv2.g == 2
    assert block(torch.randn(2, 16, 5, 5)).shape == (2, 16, 5, 5)
