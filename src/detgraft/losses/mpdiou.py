"""MPDIoU: Ma and Xu, "MPDIoU: A Loss for Efficient and Accurate Bounding Box Regression", arXiv 2307.07662, 2023.

The authors published no code. Written from the formula. The distances of the corners are shares of the picture's
diagonal, so the loss needs to know the picture: the network's input, as in the paper.
"""

from __future__ import annotations

from torch import Tensor

from detgraft.losses.geometry import Pair


def mpdiou(pred: Tensor, target: Tensor, *, overlap: Tensor, image: Tensor) -> Tensor:
    """1 - IoU + (d1^2 + d2^2) / (H^2 + W^2), with the distances of the upper left and of the lower right corners.

    Args:
        pred: Predicted boxes, left, top, right, bottom in pixels, shape (..., 4).
        target: Targets, shape (..., 4).
        overlap: IoU, shape (...).
        image: Height and width of the picture in pixels, shape (2,).

    Returns:
        Loss of each pair, shape (...).
    """
    pair = Pair(pred, target)
    corners = (pair.pred - pair.target).square().sum(-1)
    return 1 - overlap + corners / image.to(corners).square().sum()
