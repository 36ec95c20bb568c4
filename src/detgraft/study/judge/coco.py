"""The COCO figures of a split, by faster-coco-eval.

Source of the tool: https://github.com/MiXaiLL76/faster_coco_eval (Apache-2.0), the COCO evaluation in C++.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detgraft.base.extras import require
from detgraft.study.judge.detections import MOST, Array, Detections, Truth
from detgraft.study.judge.shapes import Shapes

Number = float | None
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)


def coco_metrics(
    truth: Truth, found: Detections, shapes: Shapes | None = None
) -> tuple[dict[str, Number], dict[str, Number]]:
    """AP by the COCO rules.

    Args:
        truth: The labels.
        found: The detections, low scores included.
        shapes: Masks or key points to compare; the boxes by default.

    Returns:
        ``AP``, ``AP50``, ``AP75``, ``AP_small``, ``AP_medium``, ``AP_large``, and AP by class name; from 0 to 1, None
        where there is no labelled box to measure it on.

    Raises:
        MissingExtraError: faster-coco-eval is not installed.
    """
    fast = require("faster_coco_eval")
    labels = fast.COCO(_ground_truth(truth, shapes), print_function=_silent)
    if len(found.scores_D):
        results = labels.loadRes(_results(found, shapes), min_score=0.0)
    else:
        empty = _ground_truth(truth, None) | {"annotations": []}
        results = fast.COCO(empty, print_function=_silent)
    kind = "bbox" if shapes is None else shapes.kind
    run = fast.COCOeval_faster(labels, results, iouType=kind, print_function=_silent)
    run.params.catIds = [k + 1 for k in range(len(truth.names))]
    run.params.maxDets = [1, 10, MOST] if shapes is None else [1, 10, shapes.most]
    if shapes is not None and shapes.scales_K:
        run.params.maxDets = [shapes.most]
        run.params.kpt_oks_sigmas = np.array(shapes.scales_K)
    run.evaluate()
    run.accumulate()
    precision_TRKA = np.asarray(run.eval["precision"])[..., -1]
    if kind == "keypoints":  # its sizes are all, medium and large: a small person has no key points that can be told
        precision_TRKA = np.insert(precision_TRKA, _SMALL, -1.0, axis=3)
    # A slot without labels holds -1 for every class that lacks them.
    figures = {
        "AP": _mean(precision_TRKA[..., _ALL]),
        "AP50": _mean(precision_TRKA[0, ..., _ALL]),
        "AP75": _mean(precision_TRKA[5, ..., _ALL]),
        "AP_small": _mean(precision_TRKA[..., _SMALL]),
        "AP_medium": _mean(precision_TRKA[..., _MEDIUM]),
        "AP_large": _mean(precision_TRKA[..., _LARGE]),
    }
    per_class = {name: _mean(precision_TRKA[:, :, k, _ALL]) for k, name in enumerate(truth.names)}
    return figures, per_class


def _silent(*_: Any) -> None:
    """faster-coco-eval reports every step; a study's log has no use for it."""


def _mean(values: Array) -> Number:
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def _ground_truth(truth: Truth, shapes: Shapes | None) -> dict[str, Any]:
    sides = truth.boxes_G4[:, 2:] - truth.boxes_G4[:, :2]
    return {
        "images": [
            {"id": i + 1, "height": int(size[0]), "width": int(size[1]), "file_name": truth.files[i]}
            for i, size in enumerate(truth.sizes_I2)
        ],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(truth.names)],
        "annotations": [
            {
                "id": g + 1,
                "image_id": int(truth.picture_G[g]) + 1,
                "category_id": int(truth.classes_G[g]) + 1,
                "bbox": [float(box[0]), float(box[1]), float(sides[g, 0]), float(sides[g, 1])],
                "area": float(sides[g, 0] * sides[g, 1]),
                "iscrowd": 0,
                **({} if shapes is None else shapes.labelled_G[g]),
            }
            for g, box in enumerate(truth.boxes_G4)
        ],
    }


def _results(found: Detections, shapes: Shapes | None) -> list[dict[str, Any]]:
    sides = found.boxes_D4[:, 2:] - found.boxes_D4[:, :2]
    return [
        {
            "image_id": int(found.picture_D[d]) + 1,
            "category_id": int(found.classes_D[d]) + 1,
            "bbox": [float(box[0]), float(box[1]), float(sides[d, 0]), float(sides[d, 1])],
            "score": float(found.scores_D[d]),
            **({} if shapes is None else shapes.found_D[d]),
        }
        for d, box in enumerate(found.boxes_D4)
    ]
