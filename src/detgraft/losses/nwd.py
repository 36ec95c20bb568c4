"""NWD: Wang et al., "A Normalized Gaussian Wasserstein Distance for Tiny Object Detection", arXiv 2110.13389, 2021.

Official code: jwwangchn/NWD (Apache-2.0). Written from the formula. A box is taken for a normal distribution with its
centre and half its sides; two of them are never entirely apart, so tiny boxes that miss each other still get a
gradient. For rotated boxes the distance of the same distributions is that of Yang et al., "Rethinking Rotated Object
Detection with Gaussian Wasserstein Distance Loss", ICML 2021.
"""

from __future__ import annotations

from torch import Tensor

from detgraft.losses.geometry import EPS, Pair
from detgraft.losses.overlap import ciou

CONSTANT = 12.8
"""Pixels: the mean size of an object of AI-TOD, for which the paper made it."""


def nwd(pred: Tensor, target: Tensor, *, overlap: Tensor, ratio: float = 0.5, constant: float = CONSTANT) -> Tensor:
    """ratio (1 - NWD) + (1 - ratio) CIoU loss, NWD = exp(-W / constant), W^2 = d^2 + ((w - w')^2 + (h - h')^2) / 4.

    Args:
        pred: Predicted boxes, left, top, right, bottom in pixels, shape (..., 4).
        target: Targets, shape (..., 4).
        overlap: IoU, shape (...).
        ratio: Share of NWD, 0 to 1; 1 is NWD alone, 0 is CIoU.
        constant: Mean size of the data set's objects in pixels of the network's input.

    Returns:
        Loss of each pair, shape (...).
    """
    pair = Pair(pred, target)
    (width, height), (target_width, target_height) = pair.size, pair.target_size
    sides = (width - target_width).square() + (height - target_height).square()
    gaussian = 1 - similarity(pair.distance2 + sides / 4, constant)
    return ratio * gaussian + (1 - ratio) * ciou(pred, target, overlap=overlap)


def rotated_nwd(
    pred: Tensor, target: Tensor, *, overlap: Tensor, ratio: float = 0.5, constant: float = CONSTANT
) -> Tensor:
    """The same of rotated boxes: ratio (1 - NWD) + (1 - ratio) (1 - overlap).

    Args:
        pred: Predicted boxes: centre, width and height in pixels, angle in radians; shape (..., 5).
        target: Targets, shape (..., 5).
        overlap: Overlap that the head compares its boxes by, shape (...).
        ratio: Share of NWD, 0 to 1.
        constant: See :func:`nwd`.

    Returns:
        Loss of each pair, shape (...).
    """
    distance2 = (pred[..., :2] - target[..., :2]).square().sum(-1)
    a, b, c = _covariance(pred)
    p, q, r = _covariance(target)
    # Tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2); of 2 x 2 matrices the last trace is sqrt(Tr(S S') + 2 sqrt(|S| |S'|)).
    volumes = (_quarter_area(pred) * _quarter_area(target)).clamp(min=0)
    joint = (a * p + b * q + 2 * c * r + 2 * volumes).clamp(min=0)
    spread = (a + b + p + q - 2 * (joint + EPS).sqrt()).clamp(min=0)
    return ratio * (1 - similarity(distance2 + spread, constant)) + (1 - ratio) * (1 - overlap)


def similarity(distance2: Tensor, constant: float) -> Tensor:
    """Turn a squared Wasserstein distance into a similarity, 0 to 1."""
    return (-(distance2 + EPS).sqrt() / constant).exp()


def _covariance(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Variance in x, in y, and the covariance of the distributions of rotated boxes."""
    wide, high = (boxes[..., 2] / 2).square(), (boxes[..., 3] / 2).square()
    cos, sin = boxes[..., 4].cos(), boxes[..., 4].sin()
    return wide * cos**2 + high * sin**2, wide * sin**2 + high * cos**2, (wide - high) * cos * sin


def _quarter_area(boxes: Tensor) -> Tensor:
    """The root of a distribution's determinant."""
    return boxes[..., 2] * boxes[..., 3] / 4
