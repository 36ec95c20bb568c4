"""Content-aware reassembly in half precision on CUDA: the neighbourhood summed by the tensor cores.

Paper: CARAFE: Content-Aware ReAssembly of FEatures (arXiv 1905.02188).
Source: the formula. Own code.

What a run of pixels in one row takes from one row of neighbours is a product with a small matrix in which each output
pixel's weights stand as a band: features ``(C, I)`` times band ``(I, O)``. Most of the band's matrix is zero, but the
tensor cores have the time: on an H100 the sum and both gradients take about a third of what `carafe_triton` needs,
which multiplies only what counts (benchmarks/RESULTS.md, CUDA). Sums are kept in float32; the masks are rounded to the
features' dtype, as in the plain form. Every result is gathered by one program: the same bits on every run. Any strides
are taken as they are, channels-last included.

Names in the kernels: C channels, S scale, K side of the neighbourhood, P input pixels of a run, I input pixels that a
run can see (``P + K - 1``), O output pixels of a row; all padded to powers of two of at least 16.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float16, torch.bfloat16)
"""Dtypes of features that these kernels take."""


@triton.jit  # type: ignore[untyped-decorator]
def _forward_kernel(  # type: ignore[no-untyped-def]
    x, mask, y, groups, channels, blocks, runs, height, width,
    xb, xc, xh, xw, mb, mc, mh, mw, yb, yc, yh, yw,
    K: tl.constexpr, S: tl.constexpr, PB: tl.constexpr, IB: tl.constexpr, OB: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    picture, group = (tl.program_id(1) // groups).to(tl.int64), tl.program_id(1) % groups
    run = tl.program_id(0) // blocks
    row, start = run // runs, run % runs * PB
    c = tl.program_id(0) % blocks * CB + tl.arange(0, CB)
    i, o = tl.arange(0, IB), tl.arange(0, OB)
    known, seen, q, out = c < channels, i < PB + K - 1, start - K // 2 + i, start * S + o
    exists = (o < PB * S) & (out < width * S)
    dx = i[:, None] - (o // S)[None, :]
    band = (dx >= 0) & (dx < K) & exists[None, :]
    x += picture * xb + (group * channels + c)[:, None] * xc + (q * xw)[None, :]
    mask += picture * mb + (group * K * K + dx) * mc + (out * mw)[None, :]
    y += picture * yb + (group * channels + c)[:, None] * yc + (out * yw)[None, :]
    here = known[:, None] & (seen & (q >= 0) & (q < width))[None, :]
    for s in range(S):
        total = tl.zeros((CB, OB), dtype=tl.float32)
        for dy in range(K):
            r = row + dy - K // 2
            inside = (r >= 0) & (r < height)
            value = tl.load(x + r * xh, mask=here & inside, other=0.0)
            weight = tl.load(mask + dy * K * mc + (row * S + s) * mh, mask=band & inside, other=0.0).to(value.dtype)
            total = tl.dot(value, weight, total)
        tl.store(y + (row * S + s) * yh, total.to(y.dtype.element_ty), mask=known[:, None] & exists[None, :])


@triton.jit  # type: ignore[untyped-decorator]
def _grad_x_kernel(  # type: ignore[no-untyped-def]
    grad_y, mask, grad_x, groups, channels, blocks, runs, height, width,
    yb, yc, yh, yw, mb, mc, mh, mw, xb, xc, xh, xw,
    K: tl.constexpr, S: tl.constexpr, PB: tl.constexpr, OB: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    picture, group = (tl.program_id(1) // groups).to(tl.int64), tl.program_id(1) % groups
    run = tl.program_id(0) // blocks
    row, start = run // runs, run % runs * PB
    c = tl.program_id(0) % blocks * CB + tl.arange(0, CB)
    n, o = tl.arange(0, PB), tl.arange(0, OB)
    known, p, out = c < channels, start + n, (start - K // 2) * S + o  # out: every pixel that can have taken from p
    exists = (out >= 0) & (out < width * S) & (o < (PB + K - 1) * S)
    dx = n[None, :] - (o // S)[:, None] + K - 1
    band = (dx >= 0) & (dx < K) & exists[:, None]
    grad_y += picture * yb + (group * channels + c)[:, None] * yc + (out * yw)[None, :]
    mask += picture * mb + (group * K * K + dx) * mc + (out * mw)[:, None]
    here = known[:, None] & exists[None, :]
    total = tl.zeros((CB, PB), dtype=tl.float32)
    for dy in range(K):
        r = row - dy + K // 2  # the row whose dy-th row of neighbours this one is
        inside = (r >= 0) & (r < height)
        for s in range(S):
            value = tl.load(grad_y + (r * S + s) * yh, mask=here & inside, other=0.0)
            weight = tl.load(mask + dy * K * mc + (r * S + s) * mh, mask=band & inside, other=0.0).to(value.dtype)
            total = tl.dot(value, weight, total)
    at_x = (group * channels + c)[:, None] * xc + (row * xh + p * xw)[None, :]
    here = known[:, None] & (p < width)[None, :]
    tl.store(grad_x + picture * xb + at_x, total.to(grad_x.dtype.element_ty), mask=here)


@triton.jit  # type: ignore[untyped-decorator]
def _grad_mask_kernel(  # type: ignore[no-untyped-def]
    grad_y, x, grad_mask, groups, channels, blocks, runs, height, width,
    yb, yc, yh, yw, xb, xc, xh, xw, mb, mc, mh, mw,
    K: tl.constexpr, S: tl.constexpr, PB: tl.constexpr, IB: tl.constexpr, OB: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    picture, group = (tl.program_id(1) // groups).to(tl.int64), tl.program_id(1) % groups
    row, start = tl.program_id(0) // runs, tl.program_id(0) % runs * PB
    i, o = tl.arange(0, IB), tl.arange(0, OB)
    seen, q, out = i < PB + K - 1, start - K // 2 + i, start * S + o
    exists = (o < PB * S) & (out < width * S)
    dx = i[None, :] - (o // S)[:, None]
    band = (dx >= 0) & (dx < K) & exists[:, None]
    grad_y += picture * yb + group * channels * yc
    x += picture * xb + group * channels * xc
    grad_mask += picture * mb + (group * K * K + dx) * mc + (out * mw)[:, None]
    here = (seen & (q >= 0) & (q < width))[None, :]
    for s in range(S):
        for dy in range(K):
            r = row + dy - K // 2
            inside = (r >= 0) & (r < height)
            total = tl.zeros((OB, IB), dtype=tl.float32)
            for first in range(0, channels, CB):
                c = first + tl.arange(0, CB)
                known = (c < channels)[:, None]
                at_y = c[:, None] * yc + ((row * S + s) * yh + out * yw)[None, :]
                at_x = c[:, None] * xc + (r * xh + q * xw)[None, :]
                grad = tl.load(grad_y + at_y, mask=known & exists[None, :], other=0.0)
                value = tl.load(x + at_x, mask=known & here & inside, other=0.0)
                total = tl.dot(tl.trans(grad), value, total)
            target = grad_mask + dy * K * mc + (row * S + s) * mh
            tl.store(target, total.to(grad_mask.dtype.element_ty), mask=band)  # the band is all that has a meaning


KERNELS = (_forward_kernel, _grad_x_kernel, _grad_mask_kernel)
"""Of the sum, the features' gradient and the masks' gradient; each takes its three tensors as in `carafe_triton`."""


def tiles(kernel: Any, k_up: int, scale: int, per_group: int) -> dict[str, int]:
    """Return a kernel's constants. The sizes were the fastest of those tried on an H100 that keep to the registers."""
    found = {"K": k_up, "S": scale, "PB": 32 if kernel is _grad_mask_kernel and scale <= 2 else 16}
    seen = found["PB"] + k_up - 1
    found["OB"] = _padded((seen if kernel is _grad_x_kernel else found["PB"]) * scale)
    if kernel is not _grad_x_kernel:
        found["IB"] = _padded(seen)
    widest = {_forward_kernel: 32, _grad_x_kernel: 64, _grad_mask_kernel: 16}[kernel]  # rows beside 128 channels
    room = 128 * widest // found["OB"]
    return {**found, "CB": min(128, _padded(per_group), max(16, room if found["OB"] <= 64 else room // 2))}


def _padded(size: int) -> int:
    """The tensor cores' smallest side is 16."""
    return max(16, int(triton.next_power_of_2(size)))


def launch(kernel: Any, tensors: tuple[Tensor, ...], x_BCHW: Tensor, mask: Tensor, k_up: int, scale: int) -> None:
    """Run one of :data:`KERNELS` on tensors of any strides; the last of ``tensors`` is filled.

    Args:
        kernel: One of :data:`KERNELS`.
        tensors: What it reads and, last, what it writes.
        x_BCHW: The features, for their shape.
        mask: The masks, for their shape.
        k_up: Side of the neighbourhood.
        scale: Upsampling factor.
    """
    batch, channels, height, width = x_BCHW.shape
    groups = mask.shape[1] // (k_up * k_up)
    per_group = channels // groups
    constants = tiles(kernel, k_up, scale, per_group)
    blocks = 1 if kernel is _grad_mask_kernel else triton.cdiv(per_group, constants["CB"])
    runs = triton.cdiv(width, constants["PB"])
    kernel[(runs * height * blocks, batch * groups)](
        *tensors,
        groups,
        per_group,
        blocks,
        runs,
        height,
        width,
        *(stride for tensor in tensors for stride in tensor.stride()),
        **constants,
        num_warps=4,
        num_stages=1,  # two and three stages took 1.2 to 1.6 times as long
    )
