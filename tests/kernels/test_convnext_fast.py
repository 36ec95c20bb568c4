"""The fast ConvNeXt V2 block is timm's: same features, gradients and names, and timm's own forward elsewhere."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from timm.layers import DropPath
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from detgraft.blocks.backbones import convnext_fast
from detgraft.blocks.backbones.convnext_fast import FastConvNeXtBlock
from detgraft.blocks.backbones.convnextv2 import convnextv2
from detgraft.kernels.convnext import response_mlp
from detgraft.kernels.products import linear


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Counts how often the fast form ran."""
    counted: list[str] = []
    monkeypatch.setattr(convnext_fast, "response_mlp", lambda *a: counted.append("fast") or response_mlp(*a))
    return counted


def randomised(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for p in module.parameters():
        if p.ndim == 1:
            p.data.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype), alpha=0.3)
    return module


def pair(conv_mlp: bool, channels: int = 6, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, nn.Module]:
    theirs = randomised(ConvNeXtBlock(channels, use_grn=True, ls_init_value=None, conv_mlp=conv_mlp)).to(dtype)
    ours = copy.deepcopy(theirs)
    ours.__class__ = FastConvNeXtBlock
    return ours, theirs


def outcome(block: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    y = block(x)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype, device=y.device).view(y.shape)
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), (x, *block.parameters()))]


@pytest.mark.parametrize("conv_mlp", [False, True])
@pytest.mark.parametrize("size", [(3, 5, 7), (1, 1, 1), (2, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_timm(conv_mlp: bool, size: tuple[int, int, int], dtype: torch.dtype, calls: list[str]) -> None:
    ours, theirs = pair(conv_mlp, dtype=dtype)
    torch.manual_seed(0)
    x = torch.randn(size[0], 6, *size[1:], dtype=dtype)
    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    found, expected = outcome(ours, x), outcome(theirs, x)
    assert calls == ["fast"]
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for value, reference in zip(found, expected, strict=True):
        assert (value - reference).abs().max() <= tolerance * max(reference.abs().max().item(), 1)


def test_gradcheck() -> None:
    block, _ = pair(False, channels=3)
    x = torch.randn(2, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: block(x), (x, *block.parameters()))


def test_a_silent_channel_has_finite_gradients() -> None:
    """GELU of a large negative bias is exactly 0, and so is the channel's norm."""
    ours, theirs = pair(False, dtype=torch.float32)
    for block in (ours, theirs):
        block.mlp.fc1.bias.data[0] = -1e4
    for value, reference in zip(*(outcome(b, torch.randn(1, 6, 3, 3)) for b in (ours, ours)), strict=True):
        assert torch.isfinite(value).all()
        assert value.shape == reference.shape
    x = torch.randn(1, 6, 3, 3)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", ["atto", "tiny"])
def test_features_of_a_backbone_equal_timms(size: str, calls: list[str]) -> None:
    torch.manual_seed(0)
    backbone = randomised(convnextv2(size, 3, 0.2))
    plain = copy.deepcopy(backbone)
    for module in plain.modules():
        if type(module) is FastConvNeXtBlock:
            module.__class__ = ConvNeXtBlock
    x = torch.randn(2, 3, 64, 96)
    for ours, theirs in zip(backbone(x), plain(x), strict=True):
        assert ours.is_contiguous(memory_format=torch.channels_last)
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    assert len(calls) == len([m for m in backbone.modules() if isinstance(m, FastConvNeXtBlock)]) > 0


def test_survives_pickle_deepcopy_and_fuse(calls: list[str]) -> None:
    backbone = randomised(convnextv2("atto", 3, 0.2)).eval()
    x = torch.randn(1, 3, 64, 64)
    expected = backbone(x)
    for other in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone)), copy.deepcopy(backbone).fuse()):
        calls.clear()
        for found, wanted in zip(other(x), expected, strict=True):
            assert torch.equal(found, wanted)
        assert calls


def test_exports(tmp_path: Path, calls: list[str]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    backbone = randomised(convnextv2("atto", 3, 0.2)).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = backbone(x)
        calls.clear()
        traced = torch.jit.trace(backbone, x, check_trace=False)
        torch.onnx.export(backbone, (x,), str(tmp_path / "b.onnx"), opset_version=17, dynamo=False, input_names=["x"])
        program = torch.export.export(backbone, (x,))
    assert not calls
    session = onnxruntime.InferenceSession(str(tmp_path / "b.onnx"), providers=["CPUExecutionProvider"])
    results = [traced(x), program.module()(x), [torch.from_numpy(y) for y in session.run(None, {"x": x.numpy()})]]
    for features in results:
        for found, wanted in zip(features, expected, strict=True):
            assert (found - wanted).abs().max() <= 2e-5 * wanted.abs().max()


def _hook(block: nn.Module) -> None:
    block.mlp.fc1.register_forward_hook(lambda *_: None)


def _replace_forward(block: nn.Module) -> None:
    block.mlp.grn.forward = lambda x: x


def _drop_path(block: nn.Module) -> None:
    block.drop_path = DropPath(0.5)


def _dropout(block: nn.Module) -> None:
    block.mlp.drop1.p = 0.5


def _layer_scale(block: nn.Module) -> None:
    block.gamma = nn.Parameter(torch.ones(6, dtype=torch.float64))


def _activation(block: nn.Module) -> None:
    block.mlp.act = nn.SiLU()


@pytest.mark.parametrize("change", [_hook, _replace_forward, _drop_path, _dropout, _layer_scale, _activation])
def test_whatever_is_not_covered_is_timms(change: object, calls: list[str]) -> None:
    ours, theirs = pair(False)
    change(ours)  # type: ignore[operator]
    change(theirs)  # type: ignore[operator]
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    torch.manual_seed(0)
    found = ours(x)
    torch.manual_seed(0)
    assert torch.equal(found, theirs(x))
    assert not calls


@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
def test_the_spatial_convolution_stays_a_module_where_it_has_to(padding_mode: str, calls: list[str]) -> None:
    ours, theirs = pair(False, dtype=torch.float32)
    seen: list[object] = []
    for block in (ours, theirs):
        block.conv_dw.padding_mode = padding_mode
        block.conv_dw._reversed_padding_repeated_twice = [3, 3, 3, 3]
    if padding_mode == "zeros":
        ours.conv_dw.register_forward_hook(lambda *_: seen.append("hook"))
    x = torch.randn(2, 6, 8, 9)
    for value, reference in zip(outcome(ours, x), outcome(theirs, x), strict=True):
        assert (value - reference).abs().max() <= 1e-5 * max(reference.abs().max().item(), 1)
    assert calls == ["fast"]
    assert seen == (["hook"] if padding_mode == "zeros" else [])


def test_autocast_half_precision_and_counters_use_timms(calls: list[str]) -> None:
    ours, theirs = pair(False, dtype=torch.float32)
    x = torch.randn(2, 6, 4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x).dtype == theirs(x).dtype
    assert ours.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    counted = []
    for block in (ours, theirs.bfloat16()):
        with FlopCounterMode(display=False) as counter:
            block(x.bfloat16())
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] > 0
    assert not calls


def test_empty_batch() -> None:
    ours, _ = pair(True, dtype=torch.float32)
    assert ours(torch.zeros(0, 6, 4, 4)).shape == (0, 6, 4, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("transposed", [False, True])
def test_products(dtype: torch.dtype, transposed: bool) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(7, 5, dtype=dtype), torch.randn(3, 5, dtype=dtype)
    if transposed:
        x, weight = x.t().contiguous().t(), weight.t().contiguous().t()
    bias = torch.randn(3, dtype=dtype)
    torch.testing.assert_close(linear(x, weight, bias), x @ weight.t() + bias)
    torch.testing.assert_close(linear(x, weight), x @ weight.t())
