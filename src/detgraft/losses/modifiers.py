"""Modifiers of the overlap that go with any box loss: Inner-IoU and Focaler-IoU.

- Inner-IoU: Zhang et al., arXiv 2311.02877, 2023; malagoutou/Inner-IoU, no licence stated. The overlap of boxes about
  the same centres with sides times a ratio.
- Focaler-IoU: Zhang and Zhang, arXiv 2401.10525, 2024; malagoutou/Focaler-IoU, no licence stated. The overlap is
  stretched from the interval [d, u] to [0, 1].

Both papers change a loss L into L + IoU - IoU', that is, the new overlap stands in the term 1 - IoU and nowhere else.
So it is here: a formula takes ``overlap`` for that term, and keeps the plain IoU wherever else it needs one. Given
both, the inner overlap is stretched.
"""

from __future__ import annotations

from torch import Tensor

from detgraft.losses.geometry import Pair, scaled


def inner(pred: Tensor, target: Tensor, ratio: float) -> Tensor:
    """Overlap of the boxes with their sides times ``ratio``.

    Args:
        pred: Predicted boxes, left, top, right, bottom, shape (..., 4).
        target: Targets, shape (..., 4).
        ratio: Below 1 for a steeper slope near the target, above 1 for a longer reach; 0.5 to 1.5 in the paper.

    Returns:
        Overlap, 0 to 1, shape (...).
    """
    return Pair(scaled(pred, ratio), scaled(target, ratio)).iou


def focaler(overlap: Tensor, low: float, high: float) -> Tensor:
    """Stretch an overlap: 0 up to ``low``, 1 from ``high`` on, straight between.

    Args:
        overlap: Any shape.
        low: Lower bound d, 0 to 1.
        high: Upper bound u, above ``low``.
    """
    return ((overlap - low) / (high - low)).clamp(0, 1)
