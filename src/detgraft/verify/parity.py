"""Compares two answers of one detector: boxes in pixels, scores, and whatever else a head returns.

A head answers either with one column per anchor, shape (B, 4 + classes + extra, anchors), which are compared entry by
entry, or with a ranked list, shape (B, rank, 4 + ...). Two ranks with nearly equal scores may change places by
rounding alone, so rows of ranked lists are matched before they are compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from detgraft.measure.watch import relative_drift

BOX_TOLERANCE = 0.1
"""Pixels. Rounding moves boxes by about 0.001 pixels; a layer that is off by a tenth, by tens of pixels."""

SCORE_TOLERANCE = 1e-3
"""Absolute, for scores between 0 and 1, and relative to the largest value for every other output."""

UNMATCHED = 0.02
"""Share of a ranked list's rows that may have no counterpart: the list ends somewhere among equal scores."""


@dataclasses.dataclass(frozen=True)
class Drift:
    """How far one answer is from another.

    Args:
        boxes: Largest difference of a box coordinate, in pixels.
        scores: Largest difference of a score (or of another value of the predictions).
        others: Largest relative difference in the further outputs (masks, features).
        note: What cannot be put into a number, else an empty text.
    """

    boxes: float = 0.0
    scores: float = 0.0
    others: float = 0.0
    note: str = ""

    @property
    def fine(self) -> bool:
        """Whether everything stays within the stated tolerances."""
        worst = max(self.scores, self.others)
        return not self.note and self.boxes <= BOX_TOLERANCE and worst <= SCORE_TOLERANCE

    def __str__(self) -> str:
        if self.note:
            return self.note
        further = f", further outputs by {self.others:.2g} of their magnitude" if self.others else ""
        return f"boxes differ by {self.boxes:.2g} px, scores by {self.scores:.2g}{further}"

    def worst_of(self, other: Drift) -> Drift:
        """Return the larger of two drifts, entry by entry."""
        return Drift(
            max(self.boxes, other.boxes),
            max(self.scores, other.scores),
            max(self.others, other.others),
            self.note or other.note,
        )


@dataclasses.dataclass(frozen=True)
class Form:
    """How a detector's predictions are laid out.

    Args:
        classes: Number of classes.
        ranked: A ranked list, one row per detection, instead of one column per anchor.
        unit: Boxes are relative to the picture (RT-DETR) and are converted to pixels.
    """

    classes: int
    ranked: bool = False
    unit: bool = False

    def scores(self, width: int) -> int:
        """Return how many values behind the box are scores; a ranked row may have one score and a class number.

        Args:
            width: Values per detection, the box included.
        """
        per_class = not self.ranked or (self.unit and width == 4 + self.classes)
        return self.classes if per_class else 2


def compare(reference: Sequence[Tensor], found: Sequence[Tensor], imgsz: int, form: Form) -> Drift:
    """Compare the outputs of a detector.

    Args:
        reference: Outputs of the model in PyTorch; the first holds the predictions.
        found: Outputs to compare, in the same order.
        imgsz: Larger side of the picture in pixels.
        form: How the predictions are laid out.
    """
    if len(reference) != len(found):
        return Drift(note=f"{len(found)} outputs instead of {len(reference)}")
    for position, (a, b) in enumerate(zip(reference, found, strict=True)):
        if a.shape != b.shape:
            return Drift(note=f"output {position} has the shape {list(b.shape)} instead of {list(a.shape)}")
        if not bool(torch.isfinite(b).all()):
            return Drift(note=f"output {position} has values that are not finite")
    others = max((relative_drift(a, b) for a, b in zip(reference[1:], found[1:], strict=True)), default=0.0)
    first, second = reference[0].double(), found[0].double()
    if first.ndim != 3:
        return Drift(0.0, float((first - second).abs().max()), others)
    if not form.ranked:  # one row per anchor from here on
        first, second = first.transpose(1, 2), second.transpose(1, 2)
    scale = torch.ones(first.shape[-1], dtype=torch.float64)
    scale[:4] = float(imgsz) if form.unit else 1.0
    end = 4 + form.scores(first.shape[-1])
    extra = first[..., end:]
    if extra.numel():  # mask coefficients, key points, angles: relative to their magnitude
        scale[end:] = 1 / max(float(extra.abs().max()), 1e-12)
    first, second = first * scale, second * scale
    if form.ranked:
        return dataclasses.replace(_ranked(first, second), others=others)
    difference = (first - second).abs()
    scores = difference[..., 4:]
    return Drift(float(difference[..., :4].max()), float(scores.max()) if scores.numel() else 0.0, others)


def _ranked(first: Tensor, second: Tensor) -> Drift:
    boxes = scores = missing = 0.0
    for a, b in zip(first, second, strict=True):
        box_distance = (a[:, None, :4] - b[None, :, :4]).abs().amax(-1)
        rest_distance = (a[:, None, 4:] - b[None, :, 4:]).abs().amax(-1)
        # Nearest counterpart, boxes counted in units of their tolerance and scores in units of theirs.
        cost = torch.maximum(box_distance / BOX_TOLERANCE, rest_distance / SCORE_TOLERANCE)
        best = cost.argmin(1)
        rows = torch.arange(len(a))
        matched = cost[rows, best] <= 1
        missing = max(missing, 1 - float(matched.double().mean()))
        if bool(matched.any()):
            boxes = max(boxes, float(box_distance[rows, best][matched].max()))
            scores = max(scores, float(rest_distance[rows, best][matched].max()))
    if missing > UNMATCHED:
        return Drift(boxes, scores, note=f"{missing:.0%} of the ranked detections have no counterpart")
    return Drift(boxes, scores)
