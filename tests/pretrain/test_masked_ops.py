"""Each masked operation against what it means, written out over positions."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d, EffectiveSEModule, SEModule
from timm.layers.grn import GlobalResponseNorm
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn

from detgraft.pretraining import masked_ops
from detgraft.pretraining.masked_ops import Visibility
from detgraft.pretraining.masking import random_mask, upsample_mask

GRID = (3, 3)


def visibility(batch: int = 2, seed: int = 0) -> tuple[Visibility, Tensor]:
    mask = random_mask(batch, 9, 0.6, torch.Generator().manual_seed(seed))
    seen = Visibility()
    seen.set(mask, GRID)
    return seen, mask


def keep(mask: Tensor, side: int) -> Tensor:
    """Bool (B, side, side), True where visible."""
    return ~upsample_mask(mask, GRID, (side, side))[:, 0]


def tensor(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def submanifold(x: Tensor, conv: nn.Conv2d, shown_in: Tensor, shown_out: Tensor) -> Tensor:
    """A sparse convolution, one output value at a time: only visible inputs count, only visible outputs exist."""
    batch, _, height, width = x.shape
    outputs = conv.out_channels
    per_group_in, per_group_out = conv.in_channels // conv.groups, outputs // conv.groups
    rows_out, columns_out = shown_out.shape[1:]
    result = torch.zeros(batch, outputs, rows_out, columns_out, dtype=x.dtype)
    values = []
    for b, o, i, j in torch.cartesian_prod(*map(torch.arange, result.shape)).tolist():
        if not shown_out[b, i, j]:
            continue
        total = conv.bias[o] if conv.bias is not None else x.new_zeros(())
        first = o // per_group_out * per_group_in
        for u in range(conv.kernel_size[0]):
            for v in range(conv.kernel_size[1]):
                y, z = i * conv.stride[0] + u - conv.padding[0], j * conv.stride[1] + v - conv.padding[1]
                if 0 <= y < height and 0 <= z < width and shown_in[b, y, z]:
                    total = total + (x[b, first : first + per_group_in, y, z] * conv.weight[o, :, u, v]).sum()
        values.append(((b, o, i, j), total))
    index = tuple(torch.tensor(axis) for axis in zip(*(place for place, _ in values), strict=True))
    return result.index_put(index, torch.stack([value for _, value in values]))


@pytest.mark.parametrize(
    ("side", "options"),
    [
        (6, {"kernel_size": 3, "padding": 1}),
        (6, {"kernel_size": 3, "padding": 1, "stride": 2}),
        (6, {"kernel_size": 2, "stride": 2, "bias": False}),
        (6, {"kernel_size": 7, "padding": 3, "groups": 4}),
        (12, {"kernel_size": 4, "stride": 4}),
    ],
    ids=["3x3", "3x3 stride 2", "2x2 stride 2", "7x7 depthwise", "4x4 stem"],
)
def test_convolution_equals_brute_force_with_gradients(side: int, options: dict[str, int]) -> None:
    seen, mask = visibility()
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, **options).double()
    x = tensor(2, 4, side, side).requires_grad_()
    y = masked_ops.convolve(conv, seen, x)
    expected = submanifold(x, conv, keep(mask, side), keep(mask, y.shape[2]))
    assert torch.allclose(y, expected, rtol=1e-10, atol=1e-12)
    inputs = (x, *conv.parameters())
    weighting = tensor(*y.shape, seed=2)
    for ours, theirs in zip(
        torch.autograd.grad((y * weighting).sum(), inputs),
        torch.autograd.grad((expected * weighting).sum(), inputs),
        strict=True,
    ):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("with_activation", [False, True])
def test_batch_norm_equals_one_over_visible_positions(momentum: float | None, with_activation: bool) -> None:
    seen, mask = visibility()
    norm = BatchNormAct2d(5, momentum=momentum) if with_activation else nn.BatchNorm2d(5, momentum=momentum)
    plain = nn.BatchNorm1d(5, momentum=momentum)
    with torch.no_grad():
        for ours, theirs in zip(norm.parameters(), plain.parameters(), strict=True):
            ours.copy_(torch.rand(5))
            theirs.copy_(ours)
    shown = keep(mask, 6)
    for seed in (1, 2):  # the second batch shows the running statistics' rule
        x = (3 + 2 * tensor(2, 5, 6, 6, seed=seed)).float().requires_grad_()
        y = masked_ops.batch_norm(norm, seen, x).permute(0, 2, 3, 1)[shown]
        expected = plain(x.permute(0, 2, 3, 1)[shown])
        expected = expected.relu() if with_activation else expected
        assert torch.allclose(y, expected, atol=1e-5)
        inputs = (x, norm.weight, norm.bias)
        weighting = torch.randn(y.shape)
        ours = torch.autograd.grad((y * weighting).sum(), inputs)
        theirs = torch.autograd.grad((expected * weighting).sum(), (x, plain.weight, plain.bias))
        for mine, other in zip(ours, theirs, strict=True):
            assert torch.allclose(mine, other, atol=1e-4)
    for name, buffer in plain.named_buffers():
        assert torch.allclose(getattr(norm, name).double(), buffer.double(), atol=1e-6), name


def test_batch_norm_in_evaluation_uses_running_statistics() -> None:
    seen, _ = visibility()
    norm = nn.BatchNorm2d(3).eval()
    norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    x = tensor(2, 3, 6, 6).float()
    assert torch.equal(masked_ops.batch_norm(norm, seen, x), norm(x))


@pytest.mark.parametrize("channels_last", [False, True])
def test_grn_is_per_image_over_visible_positions(channels_last: bool) -> None:
    seen, mask = visibility()
    grn = GlobalResponseNorm(4, channels_last=channels_last).double()
    with torch.no_grad():
        grn.weight.copy_(tensor(4, seed=5))
        grn.bias.copy_(tensor(4, seed=6))
    x = tensor(2, 4, 6, 6)
    given = x.permute(0, 2, 3, 1) if channels_last else x
    y = masked_ops.global_response(grn, seen, given)
    y = y.permute(0, 3, 1, 2) if channels_last else y
    for image in range(2):
        tokens = x[image].permute(1, 2, 0)[keep(mask, 6)[image]]
        norm = tokens.square().sum(0).sqrt()
        expected = grn.weight * (tokens * (norm / (norm.mean() + 1e-6))) + grn.bias + tokens
        assert torch.allclose(y[image].permute(1, 2, 0)[keep(mask, 6)[image]], expected, rtol=1e-10)


@pytest.mark.parametrize("include_pad", [False, True])
def test_average_pool(include_pad: bool) -> None:
    seen, mask = visibility()
    pool = nn.AvgPool2d(3, 2, 1, count_include_pad=include_pad)
    x = tensor(2, 4, 6, 6)
    y = masked_ops.average_pool(pool, seen, x)
    shown, shown_out = keep(mask, 6), keep(mask, 3)
    for b, i, j in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(3)).tolist():
        rows, columns = range(max(0, 2 * i - 1), 2 * i + 2), range(max(0, 2 * j - 1), 2 * j + 2)
        inside = [x[b, :, r, c] for r in rows for c in columns if shown[b, r, c]]
        expected = torch.stack(inside).mean(0) if shown_out[b, i, j] else torch.zeros(4, dtype=x.dtype)
        share = len(rows) * len(columns) / 9 if include_pad else 1.0
        assert torch.allclose(y[b, :, i, j], expected * share)


def test_max_pool_never_picks_a_hidden_position() -> None:
    seen, mask = visibility()
    x = tensor(2, 4, 6, 6) - 10.0  # all negative: a hidden zero would win
    y = masked_ops.max_pool(nn.MaxPool2d(3, 2, 1), seen, x)
    shown, shown_out = keep(mask, 6), keep(mask, 3)
    for b, i, j in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(3)).tolist():
        rows, columns = range(max(0, 2 * i - 1), 2 * i + 2), range(max(0, 2 * j - 1), 2 * j + 2)
        inside = [x[b, :, r, c] for r in rows for c in columns if shown[b, r, c]]
        expected = torch.stack(inside).amax(0) if shown_out[b, i, j] else torch.zeros(4, dtype=x.dtype)
        assert torch.equal(y[b, :, i, j], expected)


@pytest.mark.parametrize(
    ("rule", "module"),
    [
        (masked_ops.squeeze_excite, SEModule(8)),
        (masked_ops.squeeze_excite, SEModule(8, add_maxpool=True)),
        (masked_ops.effective_squeeze_excite, EffectiveSEModule(8)),
        (masked_ops.efficientnet_squeeze_excite, SqueezeExcite(8)),
    ],
    ids=["SEModule", "SEModule with max", "EffectiveSEModule", "EfficientNet"],
)
def test_squeeze_excite_equals_itself_on_the_visible_part(rule: masked_ops.Rule, module: nn.Module) -> None:
    seen, mask = visibility()
    module = copy.deepcopy(module).double().eval()
    x = tensor(2, 8, 6, 6)
    y = rule(module, seen, x)
    for image in range(2):
        shown = keep(mask, 6)[image]
        alone = x[image].permute(1, 2, 0)[shown].t()[None, :, :, None]  # the visible positions as one column
        assert torch.allclose(y[image].permute(1, 2, 0)[shown].t(), module(alone)[0, :, :, 0], rtol=1e-9)
