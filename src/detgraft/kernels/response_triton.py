"""GELU and global response normalisation in one step on CUDA, forward and backward, as Triton kernels.

Paper: ConvNeXt V2 (arXiv 2301.00808). Own code from the formulas.

In a ConvNeXt V2 block these two work on the hidden tensor, the block's largest, and are bound by memory. As separate
operators they read it about a dozen times and keep four tensors of its size for the backward pass. Here the forward
pass reads it twice (squares summed, then scaled) and writes it once; the backward pass reads it and its gradient twice,
writes once, and computes the GELU anew; only the input is kept. Sums are float32 (float64 for double inputs), each by
one program in a fixed order: no atomic additions, and the same bits on every run.

Shape suffixes: B batch, L positions (height times width), D hidden channels, P parts of the positions. In the kernels:
RB positions in a tile, DB channels in a tile, RUN tiles that one program sums.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from detgraft.kernels.convnext import response_pull, response_share

ROWS, CHANNELS, RUN = 16, 64, 8


@triton.jit
def _normal(x):  # type: ignore[no-untyped-def]
    """The normal distribution's cumulative function; GELU is ``x`` times it."""
    return 0.5 + 0.5 * tl.erf(x * 0.7071067811865476)


@triton.jit
def _tile(picture, row, d, length, channels):  # type: ignore[no-untyped-def]
    """Offsets ``(R, D)`` of a tile of positions and channels, and which of them exist."""
    here = (row < length)[:, None] & (d < channels)[None, :]
    return (picture * length + row)[:, None] * channels + d[None, :], here


@triton.jit  # type: ignore[untyped-decorator]
def _energy_kernel(  # type: ignore[no-untyped-def]
    x, energy, length, channels, RB: tl.constexpr, DB: tl.constexpr, RUN: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    part, picture = tl.program_id(1), tl.program_id(2).to(tl.int64)
    d = tl.program_id(0) * DB + tl.arange(0, DB)
    total = tl.zeros((DB,), dtype=ACC)
    for i in range(RUN):
        row = (part * RUN + i) * RB + tl.arange(0, RB)
        at, here = _tile(picture, row, d, length, channels)
        value = tl.load(x + at, mask=here, other=0.0).to(ACC)
        hidden = value * _normal(value)
        total += tl.sum(hidden * hidden, axis=0)
    tl.store(energy + (picture * tl.num_programs(1) + part) * channels + d, total, mask=d < channels)


@triton.jit  # type: ignore[untyped-decorator]
def _scale_kernel(  # type: ignore[no-untyped-def]
    x, scale, beta, y, length, channels, RB: tl.constexpr, DB: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    picture = tl.program_id(2).to(tl.int64)
    d = tl.program_id(0) * DB + tl.arange(0, DB)
    row = tl.program_id(1) * RB + tl.arange(0, RB)
    known = d < channels
    at, here = _tile(picture, row, d, length, channels)
    value = tl.load(x + at, mask=here, other=0.0).to(ACC)
    factor = tl.load(scale + picture * channels + d, mask=known, other=0.0).to(ACC)
    shift = tl.load(beta + d, mask=known, other=0.0).to(ACC)
    result = value * _normal(value) * factor[None, :] + shift[None, :]
    tl.store(y + at, result.to(y.dtype.element_ty), mask=here)


@triton.jit  # type: ignore[untyped-decorator]
def _sums_kernel(  # type: ignore[no-untyped-def]
    x, grad_y, product, total, length, channels,
    RB: tl.constexpr, DB: tl.constexpr, RUN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    part, picture = tl.program_id(1), tl.program_id(2).to(tl.int64)
    d = tl.program_id(0) * DB + tl.arange(0, DB)
    products, totals = tl.zeros((DB,), dtype=ACC), tl.zeros((DB,), dtype=ACC)
    for i in range(RUN):
        row = (part * RUN + i) * RB + tl.arange(0, RB)
        at, here = _tile(picture, row, d, length, channels)
        value = tl.load(x + at, mask=here, other=0.0).to(ACC)
        grad = tl.load(grad_y + at, mask=here, other=0.0).to(ACC)
        products += tl.sum(grad * value * _normal(value), axis=0)
        totals += tl.sum(grad, axis=0)
    at_sum = (picture * tl.num_programs(1) + part) * channels + d
    tl.store(product + at_sum, products, mask=d < channels)
    tl.store(total + at_sum, totals, mask=d < channels)


@triton.jit  # type: ignore[untyped-decorator]
def _grad_kernel(  # type: ignore[no-untyped-def]
    x, grad_y, scale, pull, grad_x, length, channels, RB: tl.constexpr, DB: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    picture = tl.program_id(2).to(tl.int64)
    d = tl.program_id(0) * DB + tl.arange(0, DB)
    row = tl.program_id(1) * RB + tl.arange(0, RB)
    known = d < channels
    at, here = _tile(picture, row, d, length, channels)
    value = tl.load(x + at, mask=here, other=0.0).to(ACC)
    grad = tl.load(grad_y + at, mask=here, other=0.0).to(ACC)
    factor = tl.load(scale + picture * channels + d, mask=known, other=0.0).to(ACC)
    back = tl.load(pull + picture * channels + d, mask=known, other=0.0).to(ACC)
    normal = _normal(value)
    grad_hidden = grad * factor[None, :] + value * normal * back[None, :]
    density = tl.exp(-0.5 * value * value) * 0.3989422804014327
    tl.store(grad_x + at, (grad_hidden * (normal + value * density)).to(grad_x.dtype.element_ty), mask=here)


def gelu_response(x_BLD: Tensor, gamma_D: Tensor, beta_D: Tensor, eps: float) -> Tensor:
    """Return ``h * (1 + gamma * n) + beta`` with ``h = gelu(x)`` and ``n`` the share of ``h``'s channel norms.

    ``n`` is each channel's L2 norm over its picture's positions, divided by its mean over the channels plus ``eps``.

    Args:
        x_BLD: What the block's first product gives, not empty.
        gamma_D: Weight of the global response norm.
        beta_D: Its bias.
        eps: Its epsilon.

    Returns:
        ``(B, L, D)`` in the dtype of ``x``.
    """
    y: Tensor = _GeluResponse.apply(x_BLD, gamma_D, beta_D, eps)
    return y


class _GeluResponse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BLD: Tensor, gamma_D: Tensor, beta_D: Tensor, eps: float) -> Tensor:
        x_BLD = x_BLD.contiguous()
        energy_BPD = x_BLD.new_empty(_parts(x_BLD), dtype=_sum_dtype(x_BLD.dtype))
        _launch(_energy_kernel, x_BLD, (x_BLD, energy_BPD), RUN=RUN)
        energy_BD = energy_BPD.sum(1)
        scale_BD = 1 + gamma_D.to(energy_BD.dtype) * response_share(energy_BD, eps)
        y_BLD = torch.empty_like(x_BLD)
        _launch(_scale_kernel, x_BLD, (x_BLD, scale_BD, beta_D, y_BLD))
        ctx.save_for_backward(x_BLD, gamma_D, energy_BD)
        ctx.eps, ctx.beta_dtype = eps, beta_D.dtype
        return y_BLD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y_BLD: Tensor) -> tuple[Tensor | None, ...]:
        x_BLD, gamma_D, energy_BD = ctx.saved_tensors
        grad_y_BLD = grad_y_BLD.contiguous()
        product_BPD, total_BPD = (energy_BD.new_empty(_parts(x_BLD)) for _ in range(2))
        _launch(_sums_kernel, x_BLD, (x_BLD, grad_y_BLD, product_BPD, total_BPD), RUN=RUN)
        gamma_1D, product_BD = gamma_D.to(energy_BD.dtype), product_BPD.sum(1)
        share_BD = response_share(energy_BD, ctx.eps)
        pull_BD = response_pull(product_BD * gamma_1D, energy_BD, ctx.eps)
        scale_BD = 1 + gamma_1D * share_BD
        grad_x_BLD = torch.empty_like(x_BLD)
        _launch(_grad_kernel, x_BLD, (x_BLD, grad_y_BLD, scale_BD, pull_BD, grad_x_BLD))
        grad_gamma_D = (product_BD * share_BD).sum(0).to(gamma_D.dtype)
        return grad_x_BLD, grad_gamma_D, total_BPD.sum((0, 1)).to(ctx.beta_dtype), None


def _sum_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _accumulator(dtype: torch.dtype) -> Any:
    return tl.float64 if dtype == torch.float64 else tl.float32


def _parts(x_BLD: Tensor) -> tuple[int, int, int]:
    batch, length, channels = x_BLD.shape
    return batch, triton.cdiv(length, ROWS * RUN), channels


def _launch(kernel: Any, x_BLD: Tensor, tensors: tuple[Tensor, ...], **run: int) -> None:
    batch, length, channels = x_BLD.shape
    rows = ROWS * run.get("RUN", 1)
    kernel[(triton.cdiv(channels, CHANNELS), triton.cdiv(length, rows), batch)](
        *tensors, length, channels, RB=ROWS, DB=CHANNELS, ACC=_accumulator(x_BLD.dtype), **run
    )
