"""The depthwise convolution with the faster backward pass is PyTorch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detgraft.kernels.depthwise import depthwise, is_depthwise


@pytest.mark.parametrize("kernel", [(7, 7), (3, 5)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_equals_torch_with_gradients(kernel: tuple[int, int], with_bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 9, 8, generator=generator).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(5, 1, *kernel, generator=generator).requires_grad_()
    bias = torch.randn(5, generator=generator).requires_grad_() if with_bias else None
    inputs = [x, weight] if bias is None else [x, weight, bias]
    ours = depthwise(x, weight, bias)
    theirs = F.conv2d(x, weight, bias, padding=(kernel[0] // 2, kernel[1] // 2), groups=5)
    assert torch.equal(ours, theirs)
    factor = torch.randn(ours.shape, generator=generator)
    gradients = (torch.autograd.grad((y * factor).sum(), inputs) for y in (ours, theirs))
    for mine, other in zip(*gradients, strict=True):
        assert torch.allclose(mine, other, atol=1e-4)


def test_autocast_is_honoured() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert depthwise(torch.randn(1, 6, 4, 4), torch.randn(6, 1, 3, 3)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "is_one"),
    [
        ({"kernel_size": 7, "padding": 3, "groups": 6}, True),
        ({"kernel_size": (3, 5), "padding": (1, 2), "groups": 6, "bias": False}, True),
        ({"kernel_size": 7, "padding": 3, "groups": 3}, False),
        ({"kernel_size": 7, "padding": 2, "groups": 6}, False),
        ({"kernel_size": 4, "padding": 2, "groups": 6}, False),
        ({"kernel_size": 7, "padding": 3, "groups": 6, "stride": 2}, False),
        ({"kernel_size": 7, "padding": 6, "groups": 6, "dilation": 2}, False),
        ({"kernel_size": 7, "padding": 3, "groups": 6, "padding_mode": "circular"}, False),
        ({"kernel_size": 7, "padding": "same", "groups": 6}, False),
    ],
)
def test_only_what_it_computes_is_recognised(arguments: dict[str, object], is_one: bool) -> None:
    conv = nn.Conv2d(6, 6, **arguments)  # type: ignore[arg-type]
    assert is_depthwise(conv) == is_one
    if is_one:
        x = torch.randn(2, 6, 9, 8)
        assert torch.equal(conv(x), depthwise(x, conv.weight, conv.bias))
