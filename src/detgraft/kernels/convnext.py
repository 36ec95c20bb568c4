"""The second half of a ConvNeXt V2 block on the CPU: norm, two pointwise products with GELU and GRN, and the residual.

Paper: ConvNeXt V2 (arXiv 2301.00808). Own code from the formulas.

Global response normalisation multiplies hidden channel ``j`` of picture ``b`` by ``s_bj = 1 + gamma_j * n_bj`` and adds
``beta_j`` before the second product ``W2``. Both fold into that product: ``W2 (s * h + beta) + b2`` is
``(W2 * s_b) h + (b2 + W2 beta)``, so the hidden tensor, the block's largest, is neither scaled nor copied.

One picture is worked on at a time, so its hidden tensor stays in the cache and is never allocated for a whole batch.
The backward pass recomputes it from the norm's input, at the cost of one product beside six.

Shape suffixes: B batch, L positions (height times width), C channels, D hidden channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from detgraft.kernels.products import linear


def response_mlp(
    x_BLC: Tensor,
    residual_BLC: Tensor,
    norm: tuple[Tensor, Tensor, float],
    expand: tuple[Tensor, Tensor],
    response: tuple[Tensor, Tensor, float],
    project: tuple[Tensor, Tensor],
) -> Tensor:
    """Return ``residual + project(grn(gelu(expand(norm(x)))))``.

    Args:
        x_BLC: Output of the depthwise convolution, contiguous.
        residual_BLC: Input of the block.
        norm: Weight ``(C,)``, bias ``(C,)`` and epsilon of the layer norm.
        expand: Weight ``(D, C)`` and bias ``(D,)`` of the first product.
        response: Weight ``(D,)``, bias ``(D,)`` and epsilon of the global response norm.
        project: Weight ``(C, D)`` and bias ``(C,)`` of the second product.

    Returns:
        ``(B, L, C)``, contiguous.
    """
    y: Tensor = _ResponseMlp.apply(x_BLC, residual_BLC, *norm, *expand, *response, *project)
    return y


class _ResponseMlp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_BLC: Tensor,
        residual_BLC: Tensor,
        norm_C: Tensor,
        shift_C: Tensor,
        eps: float,
        expand_DC: Tensor,
        bias_D: Tensor,
        gamma_D: Tensor,
        beta_D: Tensor,
        response_eps: float,
        project_CD: Tensor,
        bias_C: Tensor,
    ) -> Tensor:
        base_C = torch.addmv(bias_C, project_CD, beta_D)
        y_BLC = torch.empty_like(residual_BLC)
        energy_BD = x_BLC.new_empty(x_BLC.shape[0], expand_DC.shape[0])
        for b, x_LC in enumerate(x_BLC):
            normed_LC = F.layer_norm(x_LC, norm_C.shape, norm_C, shift_C, eps)
            hidden_LD = linear(normed_LC, expand_DC, bias_D)
            torch.ops.aten.gelu_(hidden_LD)
            torch.sum(hidden_LD * hidden_LD, 0, out=energy_BD[b])
            scaled_CD = project_CD * (1 + gamma_D * response_share(energy_BD[b], response_eps))
            torch.add(residual_BLC[b], linear(hidden_LD, scaled_CD, base_C), out=y_BLC[b])
        ctx.save_for_backward(x_BLC, norm_C, shift_C, expand_DC, bias_D, gamma_D, beta_D, project_CD, energy_BD)
        ctx.eps, ctx.response_eps = eps, response_eps
        return y_BLC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y_BLC: Tensor) -> tuple[Tensor | None, ...]:
        x_BLC, norm_C, shift_C, expand_DC, bias_D, gamma_D, beta_D, project_CD, energy_BD = ctx.saved_tensors
        grad_y_BLC = grad_y_BLC.contiguous()
        grad_x_BLC = torch.empty_like(x_BLC)
        grads = {
            name: torch.zeros_like(value)
            for name, value in (
                ("norm", norm_C), ("shift", shift_C), ("expand", project_CD), ("bias", bias_D),
                ("gamma", gamma_D), ("project", project_CD),
            )
        }  # fmt: skip
        for b, (x_LC, grad_LC) in enumerate(zip(x_BLC, grad_y_BLC, strict=True)):
            normed_LC, mean, rstd = torch.native_layer_norm(x_LC, norm_C.shape, norm_C, shift_C, ctx.eps)
            before_LD = linear(normed_LC, expand_DC, bias_D)
            hidden_LD = F.gelu(before_LD)
            share_D = response_share(energy_BD[b], ctx.response_eps)
            scale_D = 1 + gamma_D * share_D
            outer_CD = linear(grad_LC.t(), hidden_LD.t())
            grads["project"].addcmul_(outer_CD, scale_D)
            grad_scale_D = (outer_CD * project_CD).sum(0)
            grads["gamma"].addcmul_(grad_scale_D, share_D)
            pull_D = response_pull(grad_scale_D * gamma_D, energy_BD[b], ctx.response_eps)
            grad_LD = linear(grad_LC, (project_CD * scale_D).t()).addcmul_(hidden_LD, pull_D)
            torch.ops.aten.gelu_backward.grad_input(grad_LD, before_LD, grad_input=grad_LD)
            grads["expand"].add_(linear(normed_LC.t(), grad_LD.t()))  # transposed: the first factor is copied
            grads["bias"].add_(grad_LD.sum(0))
            grad_x_BLC[b], grad_norm_C, grad_shift_C = torch.ops.aten.native_layer_norm_backward(
                linear(grad_LD, expand_DC.t()), x_LC, norm_C.shape, mean, rstd, norm_C, shift_C, [True, True, True]
            )
            grads["norm"].add_(grad_norm_C)
            grads["shift"].add_(grad_shift_C)
        grad_bias_C = grad_y_BLC.sum((0, 1))
        grads["project"].addr_(grad_bias_C, beta_D)
        grad_beta_D = grad_bias_C @ project_CD
        return (
            grad_x_BLC, grad_y_BLC, grads["norm"], grads["shift"], None, grads["expand"].t(), grads["bias"],
            grads["gamma"], grad_beta_D, None, grads["project"], grad_bias_C,
        )  # fmt: skip


def response_share(energy: Tensor, eps: float) -> Tensor:
    """Return each channel's L2 norm over its mean over the channels (the last dimension), from its sum of squares."""
    size = energy.sqrt()
    return size / (size.mean(-1, keepdim=True) + eps)


def response_pull(grad_share: Tensor, energy: Tensor, eps: float) -> Tensor:
    """Return ``t`` with: the hidden tensor's gradient through its share is ``hidden * t``; 0 for a silent channel."""
    size = energy.sqrt()
    mean = size.mean(-1, keepdim=True) + eps
    pushed = (grad_share * size).sum(-1, keepdim=True) / (mean * mean * size.shape[-1])
    return torch.where(size > 0, (grad_share / mean - pushed) / size, 0.0)
