"""What a task asks of a detection beside its box: masks and key points, as COCO annotations and as overlaps.

Legend of the shape suffixes: I pictures, G labelled objects, D detections, K key points, N corners.

The overlaps feed the bootstrap over pictures (:func:`detgraft.study.judge.detections.match`); the figures that decide
come from faster-coco-eval. A test holds the two equal.

Source of the similarity of key points (OKS) and of its scales: https://cocodataset.org/#keypoints-eval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detgraft.base.extras import require
from detgraft.study.design.errors import StudyError
from detgraft.study.judge.detections import MOST, Array, Truth

MOST_PEOPLE = 20
"""Detections per picture and class that count for key points, the COCO limit."""
BOX_TO_AREA = 0.53
"""Area of a labelled object as a share of its box, where only key points are labelled; Ultralytics takes it, too."""


@dataclass(frozen=True)
class Shapes:
    """What labels and detections are beside boxes.

    Args:
        kind: ``segm`` or ``keypoints``, as faster-coco-eval calls it.
        labelled_G: What a COCO annotation holds of each label, beside its box.
        found_D: What a COCO result holds of each detection, beside its box.
        overlap: Overlap of some detections with some labels of one picture, by their indices; shape (D, G).
        ignored_G: Labels that are neither to be found nor to be missed.
        digest: SHA-256 of the labels' shapes.
        most: Detections per picture and class that count.
        scales_K: Of each key point, what faster-coco-eval calls its sigma; empty for masks.
    """

    kind: str
    labelled_G: tuple[Mapping[str, Any], ...]
    found_D: tuple[Mapping[str, Any], ...]
    overlap: Callable[[Array, Array], Array]
    ignored_G: NDArray[np.bool_]
    digest: str
    most: int = MOST
    scales_K: tuple[float, ...] = ()


def encoded(masks_DHW: Array) -> list[dict[str, Any]]:
    """Masks of one picture, run-length encoded; a few bytes each in place of a picture's size.

    Args:
        masks_DHW: Masks at the picture's own size, true inside.
    """
    mask = require("faster_coco_eval").mask
    return [mask.encode(np.asfortranarray(one, dtype=np.uint8)) for one in masks_DHW]


def masks(truth: Truth, outlines_G: Sequence[Array], found_D: Sequence[Mapping[str, Any]]) -> Shapes:
    """Labelled outlines and found masks.

    Args:
        truth: The labels.
        outlines_G: Corners of each labelled outline in pixels, shape (N, 2).
        found_D: The detections' masks, from :func:`encoded`.

    Raises:
        StudyError: A label has no outline.
    """
    mask = require("faster_coco_eval").mask
    bare = next((g for g, corners in enumerate(outlines_G) if len(corners) < 3), None)
    if bare is not None or len(outlines_G) != len(truth.boxes_G4):
        file = truth.files[int(truth.picture_G[bare or 0])]
        raise StudyError(f"{file}: a label has no outline, so that masks cannot be measured.")
    labelled = []
    for g, corners in enumerate(outlines_G):
        height, width = (int(side) for side in truth.sizes_I2[truth.picture_G[g]])
        labelled.append(mask.merge(mask.frPyObjects([[float(v) for v in corners.reshape(-1)]], height, width)))
    own = [{"segmentation": one, "area": float(mask.area(one))} for one in labelled]
    runs = list(found_D)

    def overlap(chosen_D: Array, labels_G: Array) -> Array:
        shape = (len(chosen_D), len(labels_G))
        if not all(shape):
            return np.zeros(shape)
        shared = mask.iou([runs[d] for d in chosen_D], [labelled[g] for g in labels_G], [0] * len(labels_G))
        return np.asarray(shared, dtype=np.float64).reshape(shape)

    return Shapes(
        "segm",
        tuple(own),
        tuple({"segmentation": one} for one in runs),
        overlap,
        np.zeros(len(own), dtype=bool),
        _digest([np.round(corners, 3) for corners in outlines_G]),
    )


def key_points(truth: Truth, points_GK3: Array, points_DK3: Array, scales_K: Sequence[float]) -> Shapes:
    """Labelled and found key points.

    Args:
        truth: The labels.
        points_GK3: x and y in pixels and visibility (0 not labelled) of each label.
        points_DK3: x, y and anything of each detection.
        scales_K: Of each key point, how far off it may be.
    """
    seen_GK = np.asarray(points_GK3[..., 2] > 0, dtype=bool)
    sides = truth.boxes_G4[:, 2:] - truth.boxes_G4[:, :2]
    area_G = BOX_TO_AREA * sides[:, 0] * sides[:, 1]
    spread_K = (2 * np.asarray(scales_K, dtype=np.float64)) ** 2

    def overlap(chosen_D: Array, labels_G: Array) -> Array:
        shape = (len(chosen_D), len(labels_G))
        if not all(shape):
            return np.zeros(shape)
        points = points_DK3[chosen_D][:, None, :, :2].astype(np.float64)
        apart = points - points_GK3[labels_G][None, :, :, :2]
        # Where no point is labelled, the COCO code takes how far each lies outside the box with a margin of its size.
        none = np.asarray(~seen_GK[labels_G].any(axis=1), dtype=bool)
        low, high = truth.boxes_G4[labels_G, None, :2] - sides[labels_G, None], truth.boxes_G4[labels_G, None, 2:]
        outside = np.maximum(low - points, 0) + np.maximum(points - high - sides[labels_G, None], 0)
        apart = np.where(none[None, :, None, None], outside, apart)
        error = (apart**2).sum(axis=-1) / spread_K / (area_G[labels_G][None, :, None] + np.spacing(1)) / 2
        seen = (seen_GK[labels_G] | none[:, None])[None]
        return np.asarray((np.exp(-error) * seen).sum(axis=-1) / np.maximum(seen.sum(axis=-1), 1))

    labelled = tuple(
        {
            "keypoints": [float(v) for v in points_GK3[g].reshape(-1)],
            "num_keypoints": int(seen_GK[g].sum()),
            "area": float(area_G[g]),
        }
        for g in range(len(points_GK3))
    )
    with_mark_DK3 = np.concatenate([points_DK3[..., :2], np.ones((*points_DK3.shape[:2], 1))], axis=-1)
    found = tuple({"keypoints": [float(v) for v in one.reshape(-1)]} for one in with_mark_DK3)
    return Shapes(
        "keypoints",
        labelled,
        found,
        overlap,
        np.asarray(~seen_GK.any(axis=1), dtype=bool),
        _digest([np.round(points_GK3, 3)]),
        MOST_PEOPLE,
        tuple(float(scale) for scale in scales_K),
    )


def _digest(arrays: Sequence[Array]) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.shape}".encode())
        found.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
    return found.hexdigest()
