"""Shape-IoU: Zhang and Zhang, "Shape-IoU: More Accurate Metric considering Bounding Box Shape and Scale", 2023.

arXiv 2312.17663. Official code: malagoutou/Shape-IoU (no licence stated). Written from the formula.
"""

from __future__ import annotations

from torch import Tensor

from detgraft.losses.geometry import EPS, Pair
from detgraft.losses.siou import shape_cost


def shape_iou(pred: Tensor, target: Tensor, *, overlap: Tensor, scale: float = 0.0, theta: float = 4.0) -> Tensor:
    """1 - IoU + a distance and half a shape cost that are weighed by the target's own shape.

    A target's short side weighs more: ww = 2 w^s / (w^s + h^s), hh = 2 h^s / (w^s + h^s); hh weighs x and the widths,
    ww weighs y and the heights.

    Args:
        pred: Predicted boxes, left, top, right, bottom, shape (..., 4).
        target: Targets, shape (..., 4).
        overlap: IoU, shape (...).
        scale: The power s, which depends on the sizes in the data set; 0 weighs both sides alike.
        theta: Power of the shape cost.

    Returns:
        Loss of each pair, shape (...).
    """
    pair = Pair(pred, target)
    # Of shares of the larger side: a power of pixels leaves float32 soon.
    larger = pair.target_size[0].maximum(pair.target_size[1]) + EPS
    wide, high = ((side / larger + EPS).pow(scale) for side in pair.target_size)
    width_weight, height_weight = 2 * wide / (wide + high), 2 * high / (wide + high)
    x, y = pair.offset
    distance = (height_weight * x.square() + width_weight * y.square()) / (pair.diagonal2 + EPS)
    return 1 - overlap + distance + shape_cost(pair, height_weight, width_weight, theta) / 2
