"""What the formulas of box losses share: widths, overlaps, enclosing boxes.

Boxes are given by left, top, right and bottom, shape (..., 4); results have the shape (...). Everything is computed in
float32, or in float64 where both boxes are: half precision holds neither the area of a large box nor the difference
of two like ones.
"""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch import Tensor

EPS = 1e-7
"""Added to denominators; the same number as in Ultralytics' ``bbox_iou``."""

SLIVER = 1e-5
"""Least area of a union or an enclosing box, as a share of the enclosing box's squared diagonal.

Of boxes thinner than that (one to a hundred thousand) the overlap's slope grows without bound; float16 overflows there.
"""


def working(boxes: Tensor) -> Tensor:
    """Return boxes in the precision in which they are compared: float64 stays, all else becomes float32."""
    return boxes if boxes.dtype == torch.float64 else boxes.float()


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Two boxes, or two sets of boxes that broadcast against each other, and what is between them.

    A box whose right lies left of its left has no width: heads without DFL can predict such.

    Args:
        pred: Predicted boxes, shape (..., 4).
        target: Target boxes, shape (..., 4).
    """

    pred: Tensor
    target: Tensor

    @functools.cached_property
    def size(self) -> tuple[Tensor, Tensor]:
        """Width and height of the predicted box."""
        return _size(self.pred)

    @functools.cached_property
    def target_size(self) -> tuple[Tensor, Tensor]:
        """Width and height of the target."""
        return _size(self.target)

    @functools.cached_property
    def enclosing(self) -> tuple[Tensor, Tensor]:
        """Width and height of the smallest box around both."""
        low, high = self.pred.minimum(self.target), self.pred.maximum(self.target)
        return high[..., 2] - low[..., 0], high[..., 3] - low[..., 1]

    @functools.cached_property
    def diagonal2(self) -> Tensor:
        """Squared diagonal of the enclosing box."""
        width, height = self.enclosing
        return width.square() + height.square()

    @functools.cached_property
    def offset(self) -> tuple[Tensor, Tensor]:
        """From the predicted box's centre to the target's, in x and in y."""
        twice = (self.target[..., :2] + self.target[..., 2:]) - (self.pred[..., :2] + self.pred[..., 2:])
        return twice[..., 0] / 2, twice[..., 1] / 2

    @functools.cached_property
    def distance2(self) -> Tensor:
        """Squared distance of the centres."""
        x, y = self.offset
        return x.square() + y.square()

    @functools.cached_property
    def intersection(self) -> Tensor:
        """Area that both cover."""
        low, high = self.pred.maximum(self.target), self.pred.minimum(self.target)
        return (high[..., 2] - low[..., 0]).clamp(min=0) * (high[..., 3] - low[..., 1]).clamp(min=0)

    @functools.cached_property
    def union(self) -> Tensor:
        """Area that either covers."""
        (width, height), (target_width, target_height) = self.size, self.target_size
        return width * height + target_width * target_height - self.intersection

    @functools.cached_property
    def iou(self) -> Tensor:
        """Intersection over union, 0 to 1, see :data:`SLIVER`."""
        return self.intersection / (self.union.maximum(SLIVER * self.diagonal2) + EPS)


def _size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return size[..., 0], size[..., 1]


def scaled(boxes: Tensor, ratio: float) -> Tensor:
    """Return boxes about the same centres with sides times ``ratio``.

    Args:
        boxes: Shape (..., 4).
        ratio: Factor on width and height.
    """
    middle, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
    return torch.cat((middle - half * ratio, middle + half * ratio), -1)
