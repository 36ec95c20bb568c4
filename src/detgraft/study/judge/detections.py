"""Labels and detections of one split, and the AP of any weighted choice of its pictures.

Legend of the shape suffixes: I pictures, G labelled boxes, D detections, T IoU thresholds, K classes, B bootstrap
draws, 4 box corners x1 y1 x2 y2 in pixels of the original picture.

The COCO figures come from faster-coco-eval; the functions here exist because a bootstrap over pictures needs the AP
of a thousand weighted choices of them, and matching does not depend on the choice. A test holds their AP equal to
faster-coco-eval's. Rules: T.-Y. Lin et al., Microsoft COCO (2014), https://cocodataset.org/#detection-eval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detgraft.base.files import write_atomic

Array = NDArray[Any]
Overlap = Callable[[Array, Array], Array]
"""Overlap of some detections with some labels of one picture, by their indices; shape (D, G)."""
IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST = 100  # detections per picture and class, the COCO limit
SURE = 0.25  # score from which a detection counts when pictures are compared, Ultralytics' default for predict


@dataclass(frozen=True)
class Truth:
    """The labels of a split.

    Args:
        files: Picture files, in order.
        sizes_I2: Height and width of each picture in pixels.
        boxes_G4: Labelled boxes.
        classes_G: Class index of each box.
        picture_G: Index of the picture of each box.
        names: Class names.
    """

    files: tuple[str, ...]
    sizes_I2: Array
    boxes_G4: Array
    classes_G: Array
    picture_G: Array
    names: tuple[str, ...]

    def digest(self) -> str:
        """SHA-256 of picture names, sizes and labels; folders are left out, so a moved data set stays the same."""
        found = hashlib.sha256("\0".join([Path(file).name for file in self.files]).encode())
        for array in (self.sizes_I2, np.round(self.boxes_G4, 3), self.classes_G, self.picture_G):
            found.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
        found.update("\0".join(self.names).encode())
        return found.hexdigest()


@dataclass(frozen=True)
class Detections:
    """What a model found: boxes, scores (0 to 1), class indices, and the picture that each belongs to."""

    boxes_D4: Array
    scores_D: Array
    classes_D: Array
    picture_D: Array


def save_detections(path: Path, truth: Truth, found: Detections) -> None:
    """Write labels and detections of a split into one ``.npz`` file, atomically."""
    from io import BytesIO

    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        files=np.array(truth.files, dtype=np.str_),
        names=np.array(truth.names, dtype=np.str_),
        sizes_I2=truth.sizes_I2.astype(np.int32),
        boxes_G4=truth.boxes_G4.astype(np.float32),
        classes_G=truth.classes_G.astype(np.int32),
        picture_G=truth.picture_G.astype(np.int32),
        boxes_D4=found.boxes_D4.astype(np.float32),
        scores_D=found.scores_D.astype(np.float32),
        classes_D=found.classes_D.astype(np.int32),
        picture_D=found.picture_D.astype(np.int32),
    )
    write_atomic(path, buffer.getvalue())


def load_detections(path: Path) -> tuple[Truth, Detections]:
    """Read what :func:`save_detections` wrote."""
    with np.load(path, allow_pickle=False) as raw:
        truth = Truth(
            tuple(str(file) for file in raw["files"]),
            raw["sizes_I2"],
            raw["boxes_G4"],
            raw["classes_G"],
            raw["picture_G"],
            tuple(str(name) for name in raw["names"]),
        )
        return truth, Detections(raw["boxes_D4"], raw["scores_D"], raw["classes_D"], raw["picture_D"])


def iou(a_N4: Array, b_M4: Array) -> Array:
    """IoU of every box with every other, shape (N, M)."""
    a, b = a_N4[:, None].astype(np.float64), b_M4[None].astype(np.float64)
    side = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    shared = side[..., 0] * side[..., 1]
    area = [(box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1]) for box in (a, b)]
    return np.asarray(shared / np.maximum(area[0] + area[1] - shared, 1e-12))


@dataclass(frozen=True)
class Matches:
    """Which detections are right, sorted by falling score.

    Args:
        right_DT: Whether a detection matches a labelled box at each IoU threshold.
        classes_D: Class of each.
        picture_D: Picture of each.
        labelled_IK: Number of labelled boxes of each picture and class.
        scores_D: Score of each.
        void_DT: Detections that match a label which counts for nothing, and so count for nothing themselves.
    """

    right_DT: Array
    classes_D: Array
    picture_D: Array
    labelled_IK: Array
    scores_D: Array
    void_DT: Array


def match(
    truth: Truth,
    found: Detections,
    overlap: Overlap | None = None,
    ignored_G: Array | None = None,
    most: int = MOST,
) -> Matches:
    """Match detections to labels by the COCO rules: by falling score, each label at most once, best overlap first.

    Args:
        truth: The labels.
        found: The detections.
        overlap: Overlap of some detections with some labels, by their indices; IoU of the boxes by default.
        ignored_G: Labels that are neither to be found nor to be missed; none by default.
        most: Detections per picture and class that count.
    """
    count, classes = len(truth.files), len(truth.names)
    ignored = np.zeros(len(truth.classes_G), dtype=bool) if ignored_G is None else np.asarray(ignored_G, dtype=bool)
    labelled = np.zeros((count, classes), dtype=np.int64)
    np.add.at(labelled, (truth.picture_G[~ignored], truth.classes_G[~ignored]), 1)
    truth_groups = _groups(truth.picture_G, truth.classes_G)
    rights, voids, order = [], [], []
    for key, members in _groups(found.picture_D, found.classes_D).items():
        members = members[np.argsort(-found.scores_D[members], kind="stable")][:most]
        labels = truth_groups.get(key)
        right = void = np.zeros((len(members), len(IOUS)), dtype=bool)
        if labels is not None:
            labels = labels[np.argsort(ignored[labels], kind="stable")]
            shared = overlap(members, labels) if overlap else iou(found.boxes_D4[members], truth.boxes_G4[labels])
            counting = int((~ignored[labels]).sum())
            right, void = _match_one(shared, counting)
        rights.append(right)
        voids.append(void)
        order.append(members)
    nothing = np.zeros((0, len(IOUS)), dtype=bool)
    kept = np.concatenate(order) if order else np.zeros(0, dtype=np.int64)
    right_DT = np.concatenate(rights) if rights else nothing
    void_DT = np.concatenate(voids) if voids else nothing
    return matches_of(right_DT, found.classes_D[kept], found.picture_D[kept], found.scores_D[kept], labelled, void_DT)


def matches_of(
    right_DT: Array,
    classes_D: Array,
    picture_D: Array,
    scores_D: Array,
    labelled_IK: Array,
    void_DT: Array | None = None,
) -> Matches:
    """Matches in the order of falling scores; see :class:`Matches` for the arguments."""
    # Ties between pictures fall in the order of the pictures, as in the COCO code.
    order = np.lexsort((picture_D, -scores_D))
    void = np.zeros_like(right_DT) if void_DT is None else void_DT
    return Matches(right_DT[order], classes_D[order], picture_D[order], labelled_IK, scores_D[order], void[order])


def _groups(picture: Array, classes: Array) -> dict[tuple[int, int], Array]:
    """Indices of the boxes of each (picture, class)."""
    order = np.lexsort((np.arange(len(picture)), classes, picture))
    keys = np.stack([picture[order], classes[order]], axis=1)
    starts = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)]) if len(order) else np.zeros(0, dtype=int)
    parts = np.split(order, starts[1:])
    return {(int(keys[s, 0]), int(keys[s, 1])): part for s, part in zip(starts, parts, strict=False)}


def _match_one(iou_DG: Array, counting: int) -> tuple[Array, Array]:
    """Greedy matching of one picture and class at every threshold; detections come sorted by falling score.

    Args:
        iou_DG: Overlaps; labels that count for nothing come last.
        counting: Number of labels that count.

    Returns:
        Whether each detection is right, and whether it counts for nothing, shapes (D, T).
    """
    right = np.zeros((iou_DG.shape[0], len(IOUS)), dtype=bool)
    void = np.zeros_like(right)
    for t, threshold in enumerate(IOUS):
        free = np.ones(iou_DG.shape[1], dtype=bool)
        for d in range(iou_DG.shape[0]):
            # A label that counts is taken before any that does not.
            for places, marks in ((slice(0, counting), right), (slice(counting, None), void)):
                candidates = np.where(free, iou_DG[d], -1.0)[places]
                if not len(candidates):
                    continue
                # The last of equal candidates wins, as in the COCO code.
                best = len(candidates) - 1 - int(np.argmax(candidates[::-1]))
                if candidates[best] >= min(threshold, 1 - 1e-10):
                    marks[d, t], free[(places.start or 0) + best] = True, False
                    break
    return right, void


def average_precision(matches: Matches, weights_I: Array | None = None, thresholds: slice = slice(None)) -> Array:
    """AP of each class, averaged over IoU thresholds; NaN where no labelled box has weight.

    Args:
        matches: From :func:`match`.
        weights_I: How often each picture counts; once each by default.
        thresholds: Which of the ten IoU thresholds; ``slice(0, 1)`` gives AP50.

    Returns:
        AP by class, shape (K,), from 0 to 1.
    """
    weights = np.ones(matches.labelled_IK.shape[0]) if weights_I is None else np.asarray(weights_I, dtype=np.float64)
    positives_K = weights @ matches.labelled_IK
    result = np.full(len(positives_K), np.nan)
    weight_D = weights[matches.picture_D]
    for k in np.flatnonzero(positives_K > 0):
        chosen = np.flatnonzero((matches.classes_D == k) & (weight_D > 0))
        right, void = matches.right_DT[chosen][:, thresholds], matches.void_DT[chosen][:, thresholds]
        result[k] = _class_ap(right, weight_D[chosen], positives_K[k], void)
    return result


def best_threshold(matches: Matches) -> dict[str, float | None]:
    """Precision, recall and F1 at IoU 0.5, at the score from which on their mean F1 is largest.

    Args:
        matches: From :func:`match`.

    Returns:
        ``P``, ``R`` and ``F1`` as means over the classes that have labels, and ``threshold``, the score; a class of
        which nothing is found there counts with a precision of 0. None where nothing is labelled.
    """
    positives_K = matches.labelled_IK.sum(axis=0)
    present = np.flatnonzero(positives_K > 0)
    if not len(present):
        return dict.fromkeys(("P", "R", "F1", "threshold"))
    scores = np.unique(matches.scores_D)
    if not len(scores):
        return {"P": 0.0, "R": 0.0, "F1": 0.0, "threshold": None}
    rows = []
    for k in present:
        own = np.flatnonzero((matches.classes_D == k) & ~matches.void_DT[:, 0])
        # Detections fall by score, so that those from a score on are the first ones.
        count = np.searchsorted(-matches.scores_D[own], -scores, side="right")
        hits = np.r_[0, np.cumsum(matches.right_DT[own, 0])][count]
        recall = hits / positives_K[k]
        precision = np.divide(hits, count, out=np.zeros(len(scores)), where=count > 0)
        both = precision + recall
        f1 = np.divide(2 * precision * recall, both, out=np.zeros(len(scores)), where=both > 0)
        rows.append((precision, recall, f1))
    precision, recall, f1 = np.mean(rows, axis=0)
    best = int(np.argmax(f1))
    return {
        "P": float(precision[best]),
        "R": float(recall[best]),
        "F1": float(f1[best]),
        "threshold": float(scores[best]),
    }


def _class_ap(right_DT: Array, weight_D: Array, positives: float, void_DT: Array) -> float:
    """Area under the 101-point interpolated precision curve of one class, averaged over thresholds."""
    if not len(weight_D):
        return 0.0
    hits = np.cumsum(right_DT * weight_D[:, None], axis=0)
    shown = np.cumsum(~void_DT * weight_D[:, None], axis=0)
    precision = np.divide(hits, shown, out=np.zeros_like(hits), where=shown > 0)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    total = 0.0
    for t in range(hits.shape[1]):
        # Detections that count for nothing leave hits as they are, and the envelope as well.
        # Recall is compared with the grid in double precision, as in the COCO code: 7/25 falls short of its 0.28.
        at = np.searchsorted(hits[:, t] / positives, RECALLS, side="left")
        inside = at < len(weight_D)
        total += envelope[at[inside], t].sum() / len(RECALLS)
    return float(total / hits.shape[1])


def bootstrap(matches: Matches, draws: int, seed: int, thresholds: slice = slice(None)) -> Array:
    """AP under resampled pictures, shape (B,); the same seed draws the same pictures for every model.

    Args:
        matches: From :func:`match`.
        draws: Number of draws.
        seed: Seed of the draws.
        thresholds: As in :func:`average_precision`.
    """
    count = matches.labelled_IK.shape[0]
    weights_BI = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    values = np.empty(draws)
    for b in range(draws):
        by_class = average_precision(matches, weights_BI[b], thresholds)
        values[b] = np.nan if np.isnan(by_class).all() else np.nanmean(by_class)
    return values


def errors_by_picture(truth: Truth, found: Detections, sure: float = SURE) -> Array:
    """Number of missed and of false boxes of each picture at IoU 0.5, shape (I,).

    Args:
        truth: The labels.
        found: The detections; those below ``sure`` are left out.
        sure: Least score that counts.
    """
    keep = found.scores_D >= sure
    kept = Detections(*(getattr(found, name)[keep] for name in ("boxes_D4", "scores_D", "classes_D", "picture_D")))
    matches = match(truth, kept)
    count = len(truth.files)
    right = np.bincount(matches.picture_D[matches.right_DT[:, 0]], minlength=count)
    shown = np.bincount(matches.picture_D, minlength=count)
    return np.asarray(matches.labelled_IK.sum(axis=1) - right + shown - right)
