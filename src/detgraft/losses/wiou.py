"""Wise-IoU: Tong et al., "Wise-IoU: Bounding Box Regression Loss with Dynamic Focusing Mechanism", arXiv 2301.10051.

Official code: Instinct323/wiou (no licence stated). Written from the formulas:

- v1: R (1 - IoU), R = exp(d^2 / (Wg^2 + Hg^2)*), with the enclosing box's sides; * has no gradient
- v2: (L* / mean)^gamma times v1, with L = 1 - IoU, gamma = 0.5: hard boxes count more
- v3: beta / (delta alpha^(beta - delta)) times v1, beta = L* / mean: neither the hardest nor the easiest count most

The running mean begins at 1 and takes in the mean of a step's pairs before that step's losses are weighed, as the
official code does. alpha = 1.9 and delta = 3 are the paper's; the code of its main branch has 1.7 and 2.7. The momentum
is the code's 0.01; the paper takes 1 - 0.05^(1 / (t n)), so that after t epochs of n batches 0.05 of the beginning is
left.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detgraft.losses.geometry import EPS, Pair

MOMENTUM = 0.01
START = 1.0
"""The running mean before the first step: no pair overlaps."""


def wiou(
    pred: Tensor,
    target: Tensor,
    *,
    overlap: Tensor,
    mean: Tensor,
    version: int = 3,
    alpha: float = 1.9,
    delta: float = 3.0,
    gamma: float = 0.5,
) -> Tensor:
    """Wise-IoU in one of its three versions.

    Args:
        pred: Predicted boxes, left, top, right, bottom, shape (..., 4).
        target: Targets, shape (..., 4).
        overlap: IoU, shape (...).
        mean: Running mean of 1 - IoU, no dimensions; version 1 does not look at it.
        version: 1, 2 or 3.
        alpha: Version 3: how fast the weight falls for outliers.
        delta: Version 3: the outlier degree whose weight is 1.
        gamma: Version 2: power of the weight.

    Returns:
        Loss of each pair, shape (...).
    """
    pair = Pair(pred, target)
    attention = (pair.distance2 / (pair.diagonal2 + EPS).detach()).exp()
    loss = attention * (1 - overlap)
    if version == 1:
        return loss
    degree = (1 - pair.iou).detach() / mean.to(pair.iou).clamp(min=EPS)
    if version == 2:
        return degree.pow(gamma) * loss
    return degree * torch.pow(alpha, delta - degree) / delta * loss


def running_mean(mean: Tensor, total: Tensor, count: Tensor, momentum: float) -> Tensor:
    """Return the running mean after a step.

    Args:
        mean: Before the step, no dimensions.
        total: Sum of 1 - IoU over the pairs of all processes.
        count: Number of these pairs. Without any, and where the sum is no number, the mean stays.
        momentum: Share of the step.
    """
    found = total / count.clamp(min=1)
    moved = mean * (1 - momentum) + momentum * found
    return torch.where((count > 0) & found.isfinite(), moved, mean)
