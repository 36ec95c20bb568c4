"""PIoU: Liu et al., "Powerful-IoU: More straightforward and faster bounding box regression loss", Neural Networks 2024.

No official code with a licence is known to us. Written from the formulas. The weight of version 2 has a gradient: the
paper takes none away from it.
"""

from __future__ import annotations

from torch import Tensor

from detgraft.losses.geometry import EPS, Pair


def piou(pred: Tensor, target: Tensor, *, overlap: Tensor, version: int = 2, lam: float = 1.3) -> Tensor:
    """Version 1: 1 - IoU + 1 - exp(-P^2). Version 2: that times 3 x exp(-x^2), x = lam exp(-P).

    P is the mean distance of the four edges from the target's, as shares of the target's sides.

    Args:
        pred: Predicted boxes, left, top, right, bottom, shape (..., 4).
        target: Targets, shape (..., 4).
        overlap: IoU, shape (...).
        version: 1 or 2.
        lam: Version 2: where the weight is largest.

    Returns:
        Loss of each pair, shape (...).
    """
    pair = Pair(pred, target)
    edges = (pair.pred - pair.target).abs()
    width, height = pair.target_size
    penalty = ((edges[..., 0] + edges[..., 2]) / (width + EPS) + (edges[..., 1] + edges[..., 3]) / (height + EPS)) / 4
    loss = 2 - overlap - (-penalty.square()).exp()
    if version == 1:
        return loss
    quality = lam * (-penalty).exp()
    return 3 * quality * (-quality.square()).exp() * loss
