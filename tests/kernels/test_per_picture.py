"""One convolution per picture is the grouped convolution."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detgraft.blocks.dynamic_conv import DynamicConv
from detgraft.kernels import per_picture
from detgraft.kernels.per_picture import conv2d_per_picture
from detgraft.kernels.recording import fixed_batch

CASES = [  # k, stride, padding, dilation, groups, bias
    (3, 1, 1, 1, 1, False),
    (3, 2, 1, 1, 1, True),
    (1, 1, 0, 1, 1, True),
    (5, 2, 4, 2, 2, True),
    (2, 2, 0, 1, 4, False),
]


def example(case: tuple[int, int, int, int, int, bool]) -> tuple[Tensor, Tensor, Tensor | None]:
    k, _, _, _, groups, bias = case
    torch.manual_seed(0)
    x = torch.randn(3, 8, 9, 7, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(3 * 12, 8 // groups, k, k, dtype=torch.float64, requires_grad=True)
    return x, kernels, torch.randn(36, dtype=torch.float64, requires_grad=True) if bias else None


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_equals_the_grouped_convolution(
    case: tuple[int, int, int, int, int, bool], channels_last: bool, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(per_picture, "GROUPED_UP_TO", 0 if large else 300_000)
    x, kernels, bias = example(case)
    if channels_last:
        x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    _, stride, padding, dilation, groups, _ = case
    inputs = [t for t in (x, kernels, bias) if t is not None]
    grouped = F.conv2d(x.reshape(1, 24, 9, 7), kernels, bias, stride, padding, dilation, 3 * groups)
    grouped = grouped.view(3, 12, *grouped.shape[2:])
    ours = conv2d_per_picture(x, kernels, bias, stride, padding, dilation, groups)
    torch.testing.assert_close(ours, grouped)
    weights = torch.randn_like(ours)
    for found, expected in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((grouped * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


def test_gradcheck() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(4, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: conv2d_per_picture(*a, 2, 1, 1, 1), (x, kernels, bias))


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_only_the_wanted_gradient(wanted: tuple[bool, bool]) -> None:
    x, kernels, _ = example(CASES[0])
    x, kernels = x.detach().requires_grad_(wanted[0]), kernels.detach().requires_grad_(wanted[1])
    conv2d_per_picture(x, kernels, None, 1, 1, 1, 1).sum().backward()
    assert (x.grad is not None, kernels.grad is not None) == wanted


def test_half_precision_keeps_working() -> None:
    torch.manual_seed(0)
    block = DynamicConv(8, 12, k=3, s=2, bias=True)
    x = torch.randn(3, 8, 9, 8)
    expected = block(x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(block(x).float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("arguments", [{"k": 3, "s": 2, "bias": True}, {"k": 5, "g": 2}])
def test_graph_for_one_batch_size_is_a_convolution(tmp_path: Path, batch: int, arguments: dict[str, int]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    torch.manual_seed(0)
    block = DynamicConv(8, 12, **arguments).eval()
    x = torch.randn(batch, 8, 9, 8)
    path = str(tmp_path / "block.onnx")
    with fixed_batch():
        torch.onnx.export(block, (x,), path, opset_version=17, dynamo=False, input_names=["x"])
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("Conv") == 1
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
    torch.testing.assert_close(found, block(x), rtol=1e-5, atol=1e-5)
