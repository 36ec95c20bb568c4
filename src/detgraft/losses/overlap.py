"""Losses of overlap with a penalty for what overlap does not see: GIoU, DIoU, CIoU, EIoU, and powers of them.

| loss | paper | reference code | licence |
|---|---|---|---|
| GIoU | Rezatofighi et al., CVPR 2019 | generalized-iou/g-darknet | none stated |
| DIoU, CIoU | Zheng et al., AAAI 2020 | Zzh-tju/DIoU-SSD-pytorch | GPL-3.0 |
| EIoU | Zhang et al., Neurocomputing 2022 (arXiv 2101.08158) | none published | |
| alpha-IoU | He et al., NeurIPS 2021 | Jacobi93/Alpha-IoU | GPL-3.0 |

Written from the formulas. ``overlap`` is the IoU that a modifier (:mod:`detgraft.losses.modifiers`) gives; it stands in
the term 1 - IoU alone. CIoU's weight of its aspect term keeps the plain IoU, and has no gradient, as in the paper.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from detgraft.losses.geometry import EPS, SLIVER, Pair

FLAT = 1e-3
"""Least height of a predicted box, as a share of its target's larger side, when its aspect ratio is taken."""


def giou(pred: Tensor, target: Tensor, *, overlap: Tensor) -> Tensor:
    """Generalised IoU: 1 - IoU + (C - U) / C, with the enclosing box's area C and the union U.

    Args:
        pred: Predicted boxes, left, top, right, bottom, shape (..., 4).
        target: Targets, shape (..., 4).
        overlap: IoU, shape (...).

    Returns:
        Loss of each pair, shape (...).
    """
    return 1 - overlap + _void(Pair(pred, target))


def diou(pred: Tensor, target: Tensor, *, overlap: Tensor) -> Tensor:
    """Distance IoU: 1 - IoU + d^2 / c^2, with the centres' distance d and the enclosing box's diagonal c.

    Args:
        pred: Predicted boxes, shape (..., 4).
        target: Targets, shape (..., 4).
        overlap: IoU, shape (...).

    Returns:
        Loss of each pair, shape (...).
    """
    return 1 - overlap + _distance(Pair(pred, target))


def ciou(pred: Tensor, target: Tensor, *, overlap: Tensor) -> Tensor:
    """Complete IoU, Ultralytics' own: DIoU + a v, where v compares the aspect ratios and a = v / (1 - IoU + v).

    Args:
        pred: Predicted boxes, shape (..., 4).
        target: Targets, shape (..., 4).
        overlap: IoU, shape (...).

    Returns:
        Loss of each pair, shape (...).
    """
    pair = Pair(pred, target)
    return 1 - overlap + _distance(pair) + _aspect(pair)


def eiou(pred: Tensor, target: Tensor, *, overlap: Tensor) -> Tensor:
    """Efficient IoU: DIoU + (w - w')^2 / cw^2 + (h - h')^2 / ch^2, with the enclosing box's sides cw and ch.

    Args:
        pred: Predicted boxes, shape (..., 4).
        target: Targets, shape (..., 4).
        overlap: IoU, shape (...).

    Returns:
        Loss of each pair, shape (...).
    """
    pair = Pair(pred, target)
    (width, height), (target_width, target_height) = pair.size, pair.target_size
    outer_width, outer_height = pair.enclosing
    sides = (width - target_width).square() / (outer_width.square() + EPS)
    sides = sides + (height - target_height).square() / (outer_height.square() + EPS)
    return 1 - overlap + _distance(pair) + sides


def alpha_iou(pred: Tensor, target: Tensor, *, overlap: Tensor, alpha: float = 3.0, form: str = "ciou") -> Tensor:
    """Powers of an IoU loss: 1 - IoU^alpha + P^alpha, where P is each penalty of ``form``.

    With ``alpha=1`` it is the form itself. The official training uses ``form="ciou"`` and ``alpha=3``.

    Args:
        pred: Predicted boxes, shape (..., 4).
        target: Targets, shape (..., 4).
        overlap: IoU, shape (...).
        alpha: The power, above 0.
        form: ``iou``, ``giou``, ``diou`` or ``ciou``.

    Returns:
        Loss of each pair, shape (...).
    """
    pair = Pair(pred, target)
    penalties = {
        "iou": (),
        "giou": (_void,),
        "diou": (_distance,),
        "ciou": (_distance, _aspect),
    }[form]
    loss = 1 - power(overlap, alpha)
    for penalty in penalties:
        loss = loss + power(penalty(pair), alpha)
    return loss


def rotated_alpha_iou(
    pred: Tensor, target: Tensor, *, overlap: Tensor, alpha: float = 3.0, form: str = "iou"
) -> Tensor:
    """Power of a rotated overlap: 1 - IoU^alpha, with the overlap that the head compares its boxes by.

    Args:
        pred: Predicted boxes: centre, width, height, angle; shape (..., 5). Not used, the overlap says all.
        target: Targets, shape (..., 5).
        overlap: Overlap, 0 to 1, shape (...).
        alpha: The power, above 0.
        form: ``iou``; a rotated box has no other form.

    Returns:
        Loss of each pair, shape (...).
    """
    return 1 - power(overlap, alpha)


def power(value: Tensor, exponent: float) -> Tensor:
    """Raise a share (0 to 1) to a power; below :data:`EPS` on a straight line, since a power below 1 rises endlessly.

    Args:
        value: Shares, any shape.
        exponent: Above 0.
    """
    if exponent == 1:
        return value
    return torch.where(value > EPS, value.clamp(min=EPS).pow(exponent), value * EPS ** (exponent - 1))


def _void(pair: Pair) -> Tensor:
    """Share of the enclosing box that neither box covers."""
    width, height = pair.enclosing
    area = (width * height).maximum(SLIVER * pair.diagonal2)
    return (area - pair.union) / (area + EPS)


def _distance(pair: Pair) -> Tensor:
    """Squared distance of the centres as a share of the enclosing box's squared diagonal."""
    return pair.distance2 / (pair.diagonal2 + EPS)


def _aspect(pair: Pair) -> Tensor:
    """CIoU's term for the aspect ratios, a v; its weight a has no gradient."""
    (width, height), (target_width, target_height) = pair.size, pair.target_size
    floor = FLAT * target_width.maximum(target_height) + EPS
    difference = (target_width / (target_height + EPS)).atan() - (width / height.maximum(floor)).atan()
    aspect = 4 / math.pi**2 * difference.square()
    weight = (aspect / (1 - pair.iou + aspect + EPS)).detach()
    return weight * aspect
