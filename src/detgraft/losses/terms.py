"""A loss with its options: what the formulas, their modifiers and their surroundings come together in.

A box function takes predicted and target boxes, and by name what it asks for of

- ``overlap``: the IoU for its term 1 - IoU, possibly modified, shape (...)
- ``image``: height and width of the network's input in pixels, shape (2,)
- ``mean``: the running mean of 1 - IoU

A class function takes logits and targets, and by name what it asks for of

- ``quality``: overlap of a matched box with its target at its class's score, 0 everywhere else
- ``mean``: mean overlap of the matched boxes

What else it takes by name are its options.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from detgraft.losses.geometry import Pair, working
from detgraft.losses.modifiers import focaler, inner

BOX_CONTEXT = ("overlap", "image", "mean")
CLASS_CONTEXT = ("quality", "mean")


def asks_for(function: Callable[..., Any]) -> frozenset[str]:
    """Return the names that a loss function takes besides its two tensors."""
    return frozenset(list(inspect.signature(function).parameters)[2:])


@dataclasses.dataclass(frozen=True, eq=False)
class BoxTerm:
    """A box loss, ready to be called.

    Args:
        function: The formula for upright boxes.
        rotated: The formula for rotated boxes, None where the loss has no meaning for them.
        options: Its options.
        inner: Ratio of the inner boxes; None for the boxes themselves.
        focaler: Bounds between which the overlap is stretched, or None.
        momentum: Share of a step in the running mean, or None where it keeps none.
        assigner: Whether the assigner judges boxes by this loss, too.
        stock: Nothing but Ultralytics' own formula for YOLO heads, ``ciou``, or for RT-DETR, ``giou``; else empty.
    """

    function: Callable[..., Tensor]
    options: Mapping[str, Any]
    rotated: Callable[..., Tensor] | None = None
    inner: float | None = None
    focaler: tuple[float, float] | None = None
    momentum: float | None = None
    assigner: bool = False
    stock: str = ""

    @property
    def keeps_mean(self) -> bool:
        """Whether the loss keeps a running mean."""
        return self.momentum is not None

    def __call__(self, pred: Tensor, target: Tensor, image: Tensor | None = None, mean: Tensor | None = None) -> Tensor:
        """Return the loss of each pair.

        Args:
            pred: Predicted boxes, left, top, right, bottom in pixels of the network's input, shape (..., 4).
            target: Targets, likewise.
            image: Height and width of the network's input in pixels, shape (2,).
            mean: The running mean, no dimensions.

        Returns:
            Shape (...), in float32, or in float64 where both boxes are.
        """
        pred, target = working(pred), working(target)
        known = {"image": image, "mean": mean}
        wanted = asks_for(self.function)
        given: dict[str, Any] = {name: value for name, value in known.items() if name in wanted}
        if "overlap" in wanted:
            given["overlap"] = self.stretched(
                Pair(pred, target).iou if self.inner is None else inner(pred, target, self.inner)
            )
        return self.function(pred, target, **given, **self.options)

    def of_rotated(
        self, pred: Tensor, target: Tensor, overlap_of: Callable[[Tensor, Tensor], Tensor], stride: Tensor
    ) -> Tensor:
        """Return the loss of each pair of rotated boxes.

        Args:
            pred: Predicted boxes: centre, width, height in units of ``stride``, angle in radians; shape (..., 5).
            target: Targets, likewise.
            overlap_of: The overlap that the head compares its boxes by, in these units: (..., 5) and (..., 5) to (...).
            stride: Pixels per unit, shape (..., 1).

        Returns:
            Shape (...).
        """
        if self.rotated is None:
            raise TypeError("this loss has no form for rotated boxes")
        pred, target = working(pred), working(target)
        inner_boxes = (pred, target) if self.inner is None else (_resized(b, self.inner) for b in (pred, target))
        overlap = self.stretched(overlap_of(*inner_boxes))
        boxes = (_in_pixels(b, stride) for b in (pred, target))
        return self.rotated(*boxes, overlap=overlap, **self.options)

    def stretched(self, overlap: Tensor) -> Tensor:
        """Return an overlap after Focaler-IoU, where that was asked for."""
        return overlap if self.focaler is None else focaler(overlap, *self.focaler)


@dataclasses.dataclass(frozen=True, eq=False)
class ClassTerm:
    """A class loss, ready to be called.

    Args:
        function: The formula.
        options: Its options.
        hard: The formula is about right and wrong: where labels of 0 and 1 are at hand, it gets them.
    """

    function: Callable[..., Tensor]
    options: Mapping[str, Any]
    hard: bool = False

    @property
    def asks_quality(self) -> bool:
        """Whether the loss wants to know how well each matched box lies."""
        return bool(asks_for(self.function) & {"quality", "mean"})

    def __call__(
        self, logits: Tensor, targets: Tensor, quality: Tensor | None = None, mean: Tensor | None = None
    ) -> Tensor:
        """Return the loss of each score.

        Args:
            logits: Scores before the sigmoid, any shape.
            targets: 0 to 1, same shape.
            quality: Overlap of matched boxes at their class's score, 0 everywhere else; same shape.
            mean: Mean overlap of the matched boxes.
        """
        wanted = asks_for(self.function)
        known = {"quality": quality, "mean": mean}
        given = {name: value for name, value in known.items() if name in wanted}
        return self.function(logits, targets, **given, **self.options)


def _resized(boxes: Tensor, ratio: float) -> Tensor:
    return boxes * boxes.new_tensor([1, 1, ratio, ratio, 1])


def _in_pixels(boxes: Tensor, stride: Tensor) -> Tensor:
    return torch.cat((boxes[..., :4] * stride.to(boxes), boxes[..., 4:]), -1)
