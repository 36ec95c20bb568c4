"""Every form of the reassembly gives the same sum and the same gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from detgraft.blocks.carafe import CARAFE
from detgraft.kernels import carafe as dispatch
from detgraft.kernels.carafe import carafe, plain_carafe
from detgraft.kernels.carafe_graph import graph_carafe
from detgraft.kernels.carafe_tiled import tiled_carafe

SHAPES = [  # batch, channels, height, width, k_up, scale, groups
    (2, 3, 8, 12, 5, 2, 1),
    (2, 6, 7, 11, 5, 2, 2),
    (1, 1, 1, 1, 5, 2, 1),
    (1, 5, 3, 2, 3, 3, 1),
    (2, 4, 10, 13, 3, 4, 4),
    (1, 2, 5, 4, 7, 2, 1),
    (1, 3, 6, 5, 1, 2, 1),
    (1, 4, 9, 5, 5, 1, 2),
]


def example(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    batch, channels, height, width, k_up, scale, groups = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels, height, width, generator=generator, dtype=dtype)
    mask = torch.randn(batch, groups * k_up**2, height * scale, width * scale, generator=generator, dtype=dtype)
    return x.requires_grad_(), mask.requires_grad_()


def outcome(form: object, x: Tensor, mask: Tensor, k_up: int, scale: int) -> tuple[Tensor, ...]:
    y = form(x, mask, k_up, scale)  # type: ignore[operator]
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return y.detach(), *torch.autograd.grad((y * weights).sum(), (x, mask))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_tiled_equals_plain(shape: tuple[int, ...], channels_last: bool) -> None:
    x, mask = example(shape)
    expected = outcome(plain_carafe, x, mask, *shape[4:6])
    if channels_last:
        x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    found = outcome(tiled_carafe, x, mask, *shape[4:6])
    for ours, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, plain)
    if channels_last and not x.is_contiguous() and shape[6] == 1:
        assert found[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[4] > 1])
def test_exported_form_equals_plain(shape: tuple[int, ...]) -> None:
    x, mask = (t.detach() for t in example(shape))
    torch.testing.assert_close(graph_carafe(x, mask, *shape[4:6]), plain_carafe(x, mask, *shape[4:6]))


@pytest.mark.parametrize("size", [(8, 8), (11, 10)], ids=["whole-tiles", "rest"])
@pytest.mark.filterwarnings("ignore")
def test_static_onnx_file_survives_onnxslim(size: tuple[int, int], tmp_path: Path) -> None:
    """Ultralytics slims every ONNX file; onnxslim 0.1.98 turned one-sided pads around."""
    onnx, onnxslim = pytest.importorskip("onnx"), pytest.importorskip("onnxslim")
    onnxruntime = pytest.importorskip("onnxruntime")
    block, x = CARAFE(6).eval(), torch.randn(1, 6, *size)
    torch.onnx.export(block, (x,), str(tmp_path / "c.onnx"), opset_version=17, dynamo=False, input_names=["x"])
    slim = onnxslim.slim(onnx.load(str(tmp_path / "c.onnx"))).SerializeToString()
    session = onnxruntime.InferenceSession(slim, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), block(x))


def test_tiled_takes_any_strides() -> None:
    x, mask = example((2, 3, 8, 12, 3, 2, 1))
    strided = x.detach().transpose(2, 3).contiguous().transpose(2, 3)[:, :, ::2, 1::2].requires_grad_()
    kernels = mask.detach()[:, :, ::2, ::2].requires_grad_()
    found = outcome(tiled_carafe, strided, kernels, 3, 2)
    for ours, plain in zip(found, outcome(plain_carafe, strided, kernels, 3, 2), strict=True):
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_only_the_wanted_gradient(wanted: tuple[bool, bool]) -> None:
    x, mask = (t.detach().requires_grad_(w) for t, w in zip(example(SHAPES[0]), wanted, strict=True))
    tiled_carafe(x, mask, 5, 2).sum().backward()
    assert (x.grad is not None, mask.grad is not None) == wanted


def test_gradcheck_with_rest_tiles_and_groups() -> None:
    x, mask = example((2, 4, 5, 6, 3, 2, 2))
    assert torch.autograd.gradcheck(lambda a, b: tiled_carafe(a, b, 3, 2), (x, mask))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    x, mask = (t.detach().to(dtype).requires_grad_() for t in example(SHAPES[0]))
    y = tiled_carafe(x, mask, 5, 2)
    exact = plain_carafe(x.double(), mask.double(), 5, 2)
    assert y.dtype == dtype
    torch.testing.assert_close(y, exact.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-3)
    gradients = torch.autograd.grad(y.sum(), (x, mask))
    assert [g.dtype for g in gradients] == [dtype, dtype]


def test_float32_mask_with_half_features() -> None:
    x, mask = example(SHAPES[1], torch.float32)
    y = carafe(x.half(), mask, 5, 2)
    assert y.dtype == torch.float16
    gradient = torch.autograd.grad(y.float().sum(), mask)[0]
    assert gradient.dtype == torch.float32


def test_nothing_but_the_inputs_is_kept() -> None:
    """The backward pass recomputes the windows."""
    x, mask = example((2, 8, 16, 16, 5, 2, 1), torch.float32)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        carafe(x, mask, 5, 2)
    assert {t.data_ptr() for t in kept} == {x.data_ptr(), mask.data_ptr()}


def test_counted_work_is_the_formulas() -> None:
    """Two operations for each entry of each kernel and channel; tiles' padding does not count."""
    x, mask = (t.detach() for t in example((2, 3, 7, 6, 5, 2, 1), torch.float32))
    with FlopCounterMode(display=False) as counter:
        carafe(x, mask, 5, 2)
    assert counter.get_total_flops() == 2 * 25 * 2 * 3 * (7 * 2) * (6 * 2)


def test_compiled_and_exported_graphs_hold_plain_operators() -> None:
    x, mask = (t.detach() for t in example((2, 4, 8, 8, 5, 2, 1), torch.float32))

    class Block(torch.nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return carafe(x, mask, 5, 2)

    program = torch.export.export(Block(), (x, mask))
    torch.testing.assert_close(program.module()(x, mask), tiled_carafe(x, mask, 5, 2))
    compiled = torch.compile(Block(), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, mask), tiled_carafe(x, mask, 5, 2))


def test_cpu_uses_the_tiled_form(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(dispatch, "tiled_carafe", lambda *a: calls.append(a) or tiled_carafe(*a))
    x, mask = example(SHAPES[0])
    carafe(x, mask, 5, 2)
    assert len(calls) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("switch", ["0", "1"], ids=["plain", "triton"])
@pytest.mark.parametrize("shape", SHAPES)
def test_cuda_equals_cpu(shape: tuple[int, ...], switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETGRAFT_TRITON", switch)
    x, mask = example(shape, torch.float32)
    expected = outcome(plain_carafe, x, mask, *shape[4:6])
    x, mask = (t.detach().cuda().requires_grad_() for t in (x, mask))
    y = carafe(x, mask, *shape[4:6])
    weights = torch.linspace(-1, 1, y.numel(), device="cuda").view_as(y)
    found = y.detach(), *torch.autograd.grad((y * weights).sum(), (x, mask))
    for ours, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.cpu(), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [*SHAPES, (2, 136, 9, 37, 5, 2, 1)])
def test_half_precision_on_cuda(
    shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tensor cores' sums, rounded once at the end; and the same bits when it runs again."""
    monkeypatch.setenv("DETGRAFT_TRITON", "1")
    x, mask = (t.detach().to(dtype) for t in example(shape, torch.float32))
    exact = outcome(plain_carafe, *(t.double().requires_grad_() for t in (x, mask)), *shape[4:6])
    x, mask = x.cuda(), mask.cuda()
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    runs = []
    for _ in range(2):
        leaves = [t.detach().requires_grad_() for t in (x, mask)]
        y = carafe(*leaves, *shape[4:6])
        weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).to(dtype).view_as(y).cuda()
        runs.append([y.detach(), *torch.autograd.grad(y, leaves, weights)])
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))
    limit = 2 ** (-9 if dtype == torch.float16 else -6)  # the weights of the sum are rounded here, not in the reference
    for ours, plain in zip(runs[0], exact, strict=True):
        assert (ours.double().cpu() - plain).abs().max() <= limit * plain.abs().max()
