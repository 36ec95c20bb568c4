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
from torch import Tensor

from detgraft.blocks.carafe import CARAFE, CARAFEOfficial
from detgraft.errors import ArgumentError
from detgraft.kernels.carafe import carafe


def brute_force(x: Tensor, mask: Tensor, k_up: int, scale: int) -> Tensor:
    """One output value at a time, straight from the paper's formula."""
    batch, channels, height, width = x.shape
    groups = mask.shape[1] // (k_up * k_up)
    out = torch.zeros(batch, channels, height * scale, width * scale, dtype=x.dtype)
    for b in range(batch):
        for c in range(channels):
            group = c // (channels // groups)
            for i in range(height * scale):
                for j in range(width * scale):
                    for n in range(k_up * k_up):
                        row, column = i // scale + n // k_up - k_up // 2, j // scale + n % k_up - k_up // 2
                        if 0 <= row < height and 0 <= column < width:
                            out[b, c, i, j] += mask[b, group * k_up * k_up + n, i, j] * x[b, c, row, column]
    return out


@pytest.mark.parametrize(
    ("channels", "size", "k_up", "scale", "groups"),
    [(3, (3, 5), 5, 2, 1), (1, (4, 1), 3, 3, 1), (4, (2, 3), 3, 4, 2), (6, (5, 2), 1, 2, 3), (2, (1, 1), 5, 2, 1)],
)
def test_kernel_equals_brute_force(channels: int, size: tuple[int, int], k_up: int, scale: int, groups: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    mask = torch.randn(2, groups * k_up**2, size[0] * scale, size[1] * scale, dtype=torch.float64)
    torch.testing.assert_close(carafe(x, mask, k_up, scale), brute_force(x, mask, k_up, scale))


def test_kernel_gradients() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    mask = torch.randn(2, 9, 6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: carafe(a, b, 3, 2), (x, mask))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_kernel_in_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, mask = torch.randn(1, 3, 4, 3), torch.softmax(torch.randn(1, 25, 8, 6), dim=1)
    y = carafe(x.to(dtype), mask, 5, 2)
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), carafe(x, mask, 5, 2), atol=0.03, rtol=0.03)


@pytest.mark.parametrize("block", [CARAFE, CARAFEOfficial])
def test_empty_batch(block: type[CARAFE | CARAFEOfficial]) -> None:
    assert block(4, scale=3).eval()(torch.zeros(0, 4, 3, 5)).shape == (0, 4, 9, 15)


def test_reproduces_the_form_used_with_yolo(shared: Path) -> None:
    triple = read_triple(shared, "carafe_seed_default")
    block = CARAFE(12).eval()
    load_exactly(block, weights_of(triple))
    with torch.no_grad():
        assert_close(block.mask(triple["input"]), triple["mask"])
        assert_close(block(triple["input"]), triple["output"])
        block.fuse()
        assert_close(block(triple["input"]), triple["output"])
    assert not batch_norms(block)


def test_reproduces_the_official_form(shared: Path) -> None:
    triple = read_triple(shared, "carafe_mmcv_pack")
    block = CARAFEOfficial(12).eval()
    load_exactly(block, weights_of(triple))
    with torch.no_grad():
        assert_close(block.mask(triple["input"]), triple["mask"])
        assert_close(block(triple["input"]), triple["output"])


def test_parameters_of_the_tutorials_two_rows() -> None:
    assert sum(p.numel() for p in CARAFE(256).parameters()) == 74_312
    assert sum(p.numel() for p in CARAFE(128).parameters()) == 66_120


def test_official_start() -> None:
    block = CARAFEOfficial(256)
    assert block.content_encoder.weight.std().item() == pytest.approx(0.001, rel=0.05)
    bound = (6 / (256 + 64)) ** 0.5
    assert 0.95 * bound < block.channel_compressor.weight.abs().max().item() <= bound
    assert not block.channel_compressor.bias.any()
    assert not block.content_encoder.bias.any()


@pytest.mark.parametrize("block", [CARAFE(6, c_mid=4), CARAFEOfficial(6, c_mid=4, groups=2)])
def test_every_parameter_learns(block: CARAFE | CARAFEOfficial) -> None:
    assert without_gradient(block, torch.randn(2, 6, 4, 3)) == []


def test_fuse_twice_changes_nothing() -> None:
    block = CARAFE(6, c_mid=4).eval()
    randomise_norms(block)
    x = torch.randn(1, 6, 4, 3)
    before = block(x)
    assert block.fuse() is block
    once = block(x)
    assert torch.equal(block.fuse()(x), once)
    assert_close(once, before)


@pytest.mark.parametrize(
    "block", [CARAFE(5, c_mid=4), CARAFE(5, c_mid=4, k_up=3, scale=3), CARAFEOfficial(4, c_mid=4, groups=2)]
)
def test_onnx_and_torchscript_take_any_batch_and_size(block: CARAFE | CARAFEOfficial, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    block.eval()
    randomise_norms(block)
    channels = next(block.parameters()).shape[1]
    example = torch.randn(2, channels, 6, 5)
    export_onnx(block, example, tmp_path / "block.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "block.onnx"), providers=["CPUExecutionProvider"])
    traced = torch.jit.trace(block, example)
    for shape in [(1, channels, 6, 5), (2, channels, 6, 5), (5, channels, 6, 5), (3, channels, 9, 4)]:
        x = torch.randn(shape)
        with torch.no_grad():
            expected = block(x)
            assert_close(traced(x), expected)
        assert_close(torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), expected)


@pytest.mark.parametrize(
    "arguments", [{"k_up": 4}, {"k_enc": 2}, {"scale": 0}, {"c_mid": -1}, {"scale": True}, {"k_up": 3.0}]
)
def test_wrong_arguments(arguments: dict[str, int]) -> None:
    name = next(iter(arguments))
    for block in (CARAFE, CARAFEOfficial):
        with pytest.raises(ArgumentError, match=f"{name}.*{arguments[name]}"):
            block(8, **arguments)


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(ArgumentError, match=r"groups=3.*c1=8"):
        CARAFEOfficial(8, groups=3)
