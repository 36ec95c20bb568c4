"""Content-aware reassembly on CUDA: one Triton kernel for the sum and one for each of its gradients.

Features in half precision go to `carafe_bands`, whose kernels use the tensor cores; these here do float32 and float64.

Paper: CARAFE: Content-Aware ReAssembly of FEatures (arXiv 1905.02188).
Source: the formula; mmcv's CUDA kernel (Apache-2.0) computes the same. Own code.

Each program takes a run of input pixels and, for the sum and the features' gradient, a block of channels; the blocks
of one run follow each other, so that they find its kernels in the cache. What a neighbourhood shares is read from there
too: features, kernels and result cross the memory bus about once. The tiles are sized so that nothing spills out of the
registers (checked for compute capability 9.0 by compiling, which needs no GPU: ``tests/kernels/test_triton.py``). Every
result is gathered by one program: no atomic additions, and the same bits on every run. Sums are kept in float32
(float64 for double inputs). Any strides are taken as they are, channels-last included.

Names in the kernels: P input pixels of a run, C channels, S scale, O the ``S * S`` output pixels of one input pixel
(padded to the power of two ``OB``), K side of the neighbourhood.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from detgraft.kernels import carafe_bands

PIXELS = 16  # in half precision one sector of 32 bytes


@triton.jit  # type: ignore[untyped-decorator]
def _outputs(p, inside, height, width, stride_row, stride_col, S: tl.constexpr, OB: tl.constexpr):  # type: ignore[no-untyped-def]  # fmt: skip
    """Offsets ``(P, O)`` of the output pixels that belong to input pixels, and which of them exist."""
    o = tl.arange(0, OB)
    row = (p // width)[:, None] * S + (o // S)[None, :]
    column = (p % width)[:, None] * S + (o % S)[None, :]
    valid = inside[:, None] & (o < S * S)[None, :]
    return row * stride_row + column * stride_col, valid


@triton.jit  # type: ignore[untyped-decorator]
def _forward_kernel(  # type: ignore[no-untyped-def]
    x, mask, y, groups, channels, blocks, height, width,
    xb, xc, xh, xw, mb, mc, mh, mw, yb, yc, yh, yw,
    K: tl.constexpr, S: tl.constexpr, OB: tl.constexpr, PB: tl.constexpr, CB: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    picture, group = (tl.program_id(1) // groups).to(tl.int64), tl.program_id(1) % groups
    p = tl.program_id(0) // blocks * PB + tl.arange(0, PB)
    c = tl.program_id(0) % blocks * CB + tl.arange(0, CB)
    inside, known = p < height * width, c < channels
    x += picture * xb + (group * channels + c)[None, :] * xc
    mask += picture * mb + group * K * K * mc
    y += picture * yb
    at_mask, valid = _outputs(p, inside, height, width, mh, mw, S, OB)
    total = tl.zeros((PB, OB, CB), dtype=ACC)
    for k in range(K * K):
        row, column = p // width + k // K - K // 2, p % width + k % K - K // 2
        exists = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        at = (row * xh + column * xw)[:, None]
        value = tl.load(x + at, mask=exists[:, None] & known[None, :], other=0.0).to(ACC)
        weight = tl.load(mask + k * mc + at_mask, mask=valid, other=0.0).to(ACC)
        total += weight[:, :, None] * value[:, None, :]
    at_y, _ = _outputs(p, inside, height, width, yh, yw, S, OB)
    target = y + at_y[:, :, None] + ((group * channels + c) * yc)[None, None, :]
    tl.store(target, total.to(y.dtype.element_ty), mask=valid[:, :, None] & known[None, None, :])


@triton.jit  # type: ignore[untyped-decorator]
def _grad_x_kernel(  # type: ignore[no-untyped-def]
    grad_y, mask, grad_x, groups, channels, blocks, height, width,
    yb, yc, yh, yw, mb, mc, mh, mw, xb, xc, xh, xw,
    K: tl.constexpr, S: tl.constexpr, OB: tl.constexpr, PB: tl.constexpr, CB: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    picture, group = (tl.program_id(1) // groups).to(tl.int64), tl.program_id(1) % groups
    p = tl.program_id(0) // blocks * PB + tl.arange(0, PB)
    c = tl.program_id(0) % blocks * CB + tl.arange(0, CB)
    inside, known = p < height * width, c < channels
    grad_y += picture * yb + ((group * channels + c) * yc)[None, None, :]
    mask += picture * mb + group * K * K * mc
    total = tl.zeros((PB, CB), dtype=ACC)
    for k in range(K * K):
        # the pixels whose k-th neighbour p is
        row, column = p // width - k // K + K // 2, p % width - k % K + K // 2
        exists = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        q = row * width + column
        at_mask, valid = _outputs(q, exists, height, width, mh, mw, S, OB)
        at_y, _ = _outputs(q, exists, height, width, yh, yw, S, OB)
        weight = tl.load(mask + k * mc + at_mask, mask=valid, other=0.0).to(ACC)
        value = tl.load(grad_y + at_y[:, :, None], mask=valid[:, :, None] & known[None, None, :], other=0.0).to(ACC)
        total += tl.sum(weight[:, :, None] * value, axis=1)
    at_x = ((p // width) * xh + (p % width) * xw)[:, None] + ((group * channels + c) * xc)[None, :]
    tl.store(grad_x + picture * xb + at_x, total.to(grad_x.dtype.element_ty), mask=inside[:, None] & known[None, :])


@triton.jit  # type: ignore[untyped-decorator]
def _grad_mask_kernel(  # type: ignore[no-untyped-def]
    grad_y, x, grad_mask, groups, channels, blocks, height, width,
    yb, yc, yh, yw, xb, xc, xh, xw, mb, mc, mh, mw,
    K: tl.constexpr, S: tl.constexpr, OB: tl.constexpr, PB: tl.constexpr, CB: tl.constexpr, KB: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    picture, group = (tl.program_id(1) // groups).to(tl.int64), tl.program_id(1) % groups
    p = tl.program_id(0) // blocks * PB + tl.arange(0, PB)
    neighbour = tl.arange(0, KB)
    inside = p < height * width
    grad_y += picture * yb + group * channels * yc
    x += picture * xb + group * channels * xc
    at_y, valid = _outputs(p, inside, height, width, yh, yw, S, OB)
    total = tl.zeros((PB, OB, KB), dtype=ACC)
    for first in range(0, channels, CB):
        c = first + tl.arange(0, CB)
        known = c < channels
        here = valid[:, :, None] & known[None, None, :]
        # the largest tensor, so it is read once and held while all neighbours pass
        grad = tl.load(grad_y + at_y[:, :, None] + (c * yc)[None, None, :], mask=here, other=0.0).to(ACC)
        for k in range(K * K):
            row, column = p // width + k // K - K // 2, p % width + k % K - K // 2
            exists = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
            at_x = (row * xh + column * xw)[:, None] + (c * xc)[None, :]
            value = tl.load(x + at_x, mask=exists[:, None] & known[None, :], other=0.0).to(ACC)
            part = tl.sum(grad * value[:, None, :], axis=2)
            total += tl.where((neighbour == k)[None, None, :], part[:, :, None], 0.0)
    at_mask, _ = _outputs(p, inside, height, width, mh, mw, S, OB)
    target = grad_mask + picture * mb + ((group * K * K + neighbour) * mc)[None, None, :] + at_mask[:, :, None]
    here = valid[:, :, None] & (neighbour < K * K)[None, None, :]
    tl.store(target, total.to(grad_mask.dtype.element_ty), mask=here)


def triton_carafe(x_BCHW: Tensor, mask: Tensor, k_up: int, scale: int) -> Tensor:
    """Compute `detgraft.kernels.carafe.carafe` for CUDA tensors; same arguments, shapes and result."""
    y: Tensor = _Triton.apply(x_BCHW, mask, k_up, scale)
    return y


class _Triton(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, mask: Tensor, k_up: int, scale: int) -> Tensor:
        ctx.save_for_backward(x_BCHW, mask)
        ctx.k_up, ctx.scale = k_up, scale
        batch, channels, height, width = x_BCHW.shape
        channels_last = x_BCHW.is_contiguous(memory_format=torch.channels_last) and not x_BCHW.is_contiguous()
        y = torch.empty(
            (batch, channels, height * scale, width * scale),
            dtype=x_BCHW.dtype,
            device=x_BCHW.device,
            memory_format=torch.channels_last if channels_last else torch.contiguous_format,
        )
        launch, (forward, _, _) = _form(x_BCHW.dtype)
        launch(forward, (x_BCHW, mask, y), x_BCHW, mask, k_up, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x_BCHW, mask = ctx.saved_tensors
        grad_x = grad_mask = None
        launch, (_, for_x, for_mask) = _form(x_BCHW.dtype)
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x_BCHW)
            launch(for_x, (grad_y, mask, grad_x), x_BCHW, mask, ctx.k_up, ctx.scale)
        if ctx.needs_input_grad[1]:
            grad_mask = torch.empty_like(mask)
            launch(for_mask, (grad_y, x_BCHW, grad_mask), x_BCHW, mask, ctx.k_up, ctx.scale)
        return grad_x, grad_mask, None, None


def _form(dtype: torch.dtype) -> tuple[Any, tuple[Any, Any, Any]]:
    """How kernels are run for features of a dtype, and those of the sum, the features' and the masks' gradient."""
    if dtype in carafe_bands.DTYPES:
        return carafe_bands.launch, carafe_bands.KERNELS
    return _launch, (_forward_kernel, _grad_x_kernel, _grad_mask_kernel)


def _launch(kernel: Any, tensors: tuple[Tensor, ...], x_BCHW: Tensor, mask: Tensor, k_up: int, scale: int) -> None:
    batch, channels, height, width = x_BCHW.shape
    groups = mask.shape[1] // (k_up * k_up)
    per_group = channels // groups
    constants = tiles(kernel, k_up, scale, torch.promote_types(x_BCHW.dtype, mask.dtype))
    constants["CB"] = min(constants["CB"], triton.next_power_of_2(per_group))
    blocks = 1 if kernel is _grad_mask_kernel else triton.cdiv(per_group, constants["CB"])
    kernel[(triton.cdiv(height * width, constants["PB"]) * blocks, batch * groups)](
        *tensors,
        groups,
        per_group,
        blocks,
        height,
        width,
        *(stride for tensor in tensors for stride in tensor.stride()),
        **constants,
    )


def tiles(kernel: Any, k_up: int, scale: int, dtype: torch.dtype) -> dict[str, Any]:
    """Return a kernel's constants; the sizes of its tiles (powers of two) keep its sums in the registers."""
    outputs, is_double = triton.next_power_of_2(scale * scale), dtype == torch.float64
    pixels, channels = (PIXELS // 2, 16) if is_double else (PIXELS, 32)
    found = {"K": k_up, "S": scale, "OB": outputs, "ACC": tl.float64 if is_double else tl.float32}
    if kernel is _grad_mask_kernel:
        found["KB"] = triton.next_power_of_2(k_up * k_up)
        sums = 2048 if is_double or found["KB"] > 32 else 4096  # what fits with each compiler that the test names
        room = sums // (outputs * found["KB"])
        pixels, channels = max(1, min(pixels, room)), 32 if room > PIXELS else 16
    return {**found, "PB": pixels, "CB": channels}
