from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ops_reference import (
    assert_close,
    batch_norms,
    export_onnx,
    load_exactly,
    randomise_norms,
    read_triple,
    weights_of,
    without_gradient,
)
from timm.layers import CondConv2d
from torch import nn

from detgraft.blocks import dynamic_conv
from detgraft.blocks.dynamic_conv import DynamicConv, DynamicConvBNAct
from detgraft.errors import ArgumentError

VARIANTS = [
    {"k": 3},
    {"k": 3, "s": 2, "bias": True},
    {"k": 1, "s": 2},
    {"k": 5, "d": 2, "g": 2},
    {"k": 3, "g": 4, "bias": True, "num_experts": 2},
    {"k": 2, "s": 2, "p": 0},
]


@pytest.mark.parametrize(("name", "stride"), [("dynconv_k3s1", 1), ("dynconv_k3s2", 2)])
def test_reproduces_the_official_convolution(shared: Path, name: str, stride: int) -> None:
    triple = read_triple(shared, name)
    block = DynamicConv(8, 12, k=3, s=stride).eval()
    load_exactly(block, weights_of(triple))
    assert [block.p, block.p] == triple["padding"].tolist()
    with torch.no_grad():
        assert_close(block(triple["input"]), triple["output"])


@pytest.mark.parametrize("arguments", VARIANTS)
def test_equals_timms_layer_per_picture(arguments: dict[str, int]) -> None:
    torch.manual_seed(0)
    block = DynamicConv(8, 12, **arguments).eval()
    bias, experts = bool(arguments.get("bias")), arguments.get("num_experts", 4)
    theirs = CondConv2d(
        8, 12, block.k, block.s, arguments.get("p", ""), block.d, block.g, bias=bias, num_experts=experts
    )
    theirs.load_state_dict(block.cond_conv.state_dict())
    x = torch.randn(3, 8, 9, 8)
    with torch.no_grad():
        routing = torch.sigmoid(block.routing(x.mean((2, 3))))
        expected = torch.cat([theirs(x[i : i + 1], routing[i : i + 1]) for i in range(3)])
        assert_close(block(x), expected)


@pytest.mark.parametrize("arguments", VARIANTS)
def test_the_exported_form_is_the_same_function(arguments: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block = DynamicConv(8, 12, **arguments).double().eval()
    x = torch.randn(3, 8, 9, 8, dtype=torch.float64)
    expected = block(x)
    monkeypatch.setattr(dynamic_conv, "batch_may_vary", lambda: True)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("arguments", VARIANTS)
def test_onnx_and_torchscript_take_any_batch_and_size(arguments: dict[str, int], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    torch.manual_seed(0)
    block = DynamicConv(8, 12, **arguments).eval()
    example = torch.randn(2, 8, 9, 8)
    export_onnx(block, example, tmp_path / "block.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "block.onnx"), providers=["CPUExecutionProvider"])
    traced = torch.jit.trace(block, example)
    for shape in [(1, 8, 9, 8), (2, 8, 9, 8), (5, 8, 9, 8), (3, 8, 12, 13)]:
        x = torch.randn(shape)
        with torch.no_grad():
            expected = block(x)
            assert_close(traced(x), expected)
        assert_close(torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), expected)


@pytest.mark.skipif(
    torch.__version__.startswith("2.4."),
    reason="torch 2.4's exporter fails in an assertion on bounds like 2147483647/432",
)
def test_export_with_dynamic_batch_by_torch_export() -> None:
    block = DynamicConv(8, 12, k=3).eval()
    program = torch.export.export(
        block, (torch.randn(2, 8, 6, 6),), dynamic_shapes={"x_BCHW": {0: torch.export.Dim("batch", min=1)}}
    )
    x = torch.randn(5, 8, 6, 6)
    assert_close(program.module()(x), block(x))


@pytest.mark.parametrize("block", [DynamicConv(4, 6, k=3, s=2, bias=True), DynamicConvBNAct(4, 6, k=3, s=2)])
def test_empty_batch(block: nn.Module) -> None:
    assert block.eval()(torch.zeros(0, 4, 7, 8)).shape == (0, 6, 4, 4)


@pytest.mark.parametrize("g", [1, 2])
def test_starts_like_a_plain_convolution(g: int) -> None:
    torch.manual_seed(3)
    block = DynamicConv(64, 64, k=3, g=g, bias=True, num_experts=3)
    bound = 1 / (64 // g * 9) ** 0.5  # nn.Conv2d's uniform bound
    for values in (*block.cond_conv.weight, block.cond_conv.bias):
        largest = values.abs().max().item()
        assert 0.9 * bound < largest <= bound
    assert not torch.equal(block.cond_conv.weight[0], block.cond_conv.weight[1])


@pytest.mark.parametrize("block", [DynamicConv(4, 6, k=3, bias=True), DynamicConvBNAct(4, 6, k=3, g=2)])
def test_every_parameter_learns(block: nn.Module) -> None:
    assert without_gradient(block, torch.randn(2, 4, 5, 5)) == []


@pytest.mark.parametrize("arguments", [{"k": 3, "s": 2}, {"k": 3, "g": 2}, {"act": False}, {"act": nn.ReLU()}])
def test_official_form_fuses_exactly(arguments: dict[str, int]) -> None:
    torch.manual_seed(0)
    block = DynamicConvBNAct(8, 12, **arguments).eval()
    randomise_norms(block)
    x = torch.randn(3, 8, 7, 6)
    with torch.no_grad():
        before = block(x)
        assert block.fuse() is block
        once = block(x)
        assert_close(once, before, relative=1e-6)
        assert torch.equal(block.fuse()(x), once)
        traced = torch.jit.trace(block, x[:2])
        assert_close(traced(x), once)
    assert not batch_norms(block)


def test_official_form_is_convolution_norm_activation() -> None:
    torch.manual_seed(0)
    block = DynamicConvBNAct(8, 12, k=3, s=2)
    x = torch.randn(4, 8, 7, 6)
    y = block.conv(x)
    y = (y - y.mean((0, 2, 3), keepdim=True)) / (y.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    assert_close(block(x), y * torch.sigmoid(y))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"g": 3}, "g=3"), ({"num_experts": 0}, "num_experts"), ({"g": 0}, "g must"), ({"p": -1}, "p must")],
)
def test_wrong_arguments(arguments: dict[str, int], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        DynamicConv(8, 12, **arguments)
