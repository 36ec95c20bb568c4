"""SIoU: Gevorgyan, "SIoU Loss: More Powerful Learning for Bounding Box Regression", arXiv 2205.12740, 2022.

The author published no code. Reference code: meituan/YOLOv6 (GPL-3.0), Instinct323/wiou (no licence stated). Written
from the formula. The angle cost 1 - 2 sin^2(arcsin(x) - pi/4) is sin(2 arcsin(x)), that is 2 |dx| |dy| / d^2; in that
form it has a slope everywhere, and needs no choice between the angle and its complement.
"""

from __future__ import annotations

from torch import Tensor

from detgraft.losses.geometry import EPS, Pair


def siou(pred: Tensor, target: Tensor, *, overlap: Tensor, theta: float = 4.0) -> Tensor:
    """1 - IoU + (distance cost + shape cost) / 2; the distance counts more where the angle is nearly settled.

    Args:
        pred: Predicted boxes, left, top, right, bottom, shape (..., 4).
        target: Targets, shape (..., 4).
        overlap: IoU, shape (...).
        theta: Power of the shape cost; 2 to 6 in the paper.

    Returns:
        Loss of each pair, shape (...).
    """
    pair = Pair(pred, target)
    x, y = pair.offset
    angle = 2 * x.abs() * y.abs() / (pair.distance2 + EPS)
    outer_width, outer_height = pair.enclosing
    pull = angle - 2
    distance = (
        2 - (pull * (x / (outer_width + EPS)).square()).exp() - (pull * (y / (outer_height + EPS)).square()).exp()
    )
    return 1 - overlap + (distance + shape_cost(pair, 1.0, 1.0, theta)) / 2


def shape_cost(pair: Pair, width_weight: Tensor | float, height_weight: Tensor | float, theta: float) -> Tensor:
    """How unlike the sides are: the sum of (1 - exp(-w |w - w'| / max(w, w')))^theta over both sides.

    Args:
        pair: The boxes.
        width_weight: Weight of the widths' difference.
        height_weight: Weight of the heights' difference.
        theta: The power.
    """
    (width, height), (target_width, target_height) = pair.size, pair.target_size
    wide = width_weight * (width - target_width).abs() / (width.maximum(target_width) + EPS)
    high = height_weight * (height - target_height).abs() / (height.maximum(target_height) + EPS)
    return (1 - (-wide).exp()).pow(theta) + (1 - (-high).exp()).pow(theta)
