"""Measures a trained model on the validation and test split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from detgraft.base.files import write_atomic
from detgraft.study.design.config import CellConfig
from detgraft.study.design.spec import digest_of
from detgraft.study.judge.coco import coco_metrics
from detgraft.study.judge.detections import (
    IOUS,
    Array,
    Detections,
    Matches,
    Truth,
    average_precision,
    best_threshold,
    bootstrap,
    match,
    matches_of,
    save_detections,
)
from detgraft.study.judge.result import SplitMetrics
from detgraft.study.judge.shapes import Shapes, encoded, key_points, masks

if TYPE_CHECKING:
    from detgraft.upstream.service.validation import FoundInPicture, LabelledPicture, Validated

LOWEST = 0.001  # score; Ultralytics' own validation keeps as much
OVERLAP = 0.7  # IoU of non-maximum suppression, Ultralytics' default for validation
THRESHOLDS = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}


class Evaluator(Protocol):
    """What a cell needs in order to be measured; tests put something quicker in its place."""

    def __call__(self, config: CellConfig, folder: Path) -> dict[str, SplitMetrics]:
        """Measure ``folder/best.pt``.

        Args:
            config: The run.
            folder: The cell's folder; detections and bootstrap draws are written there.

        Returns:
            Metrics by split.
        """


def evaluate(config: CellConfig, folder: Path) -> dict[str, SplitMetrics]:
    """Measure with Ultralytics and, for boxes, masks and key points, faster-coco-eval; see :class:`Evaluator`."""
    from detgraft.upstream.service import validation

    best, imgsz, batch = str(folder / "best.pt"), int(config.train["imgsz"]), int(config.train["batch"])
    classes = config.train.get("classes")  # what was trained is what is measured
    splits, found = ["val"], {}
    for split in splits:
        seen = validation.validate(best, config.data, split, imgsz, batch, folder / f"eval_{split}", classes=classes)
        if split == "val" and config.split != "val" and seen.has_test:
            splits.append("test")
        own = dict(seen.figures)
        if seen.task == "classify":
            found[split] = measure_classes(config, folder, split, seen, own)
            continue
        files = [picture.file for picture in seen.pictures]
        pictures = validation.detect(best, files, imgsz, LOWEST, OVERLAP, classes=classes)
        if seen.task == "obb":
            found[split] = measure_rotated(config, folder, split, seen, pictures, own)
            continue
        gathered = gather(pictures)
        truth = truth_of(seen.pictures, gathered.sizes_I2, seen.names)
        shapes = shapes_of(seen, truth, gathered)
        found[split] = measure(config, folder, split, truth, gathered.detections, own, seen.task, shapes)
    return found


def truth_of(rows: Sequence[LabelledPicture], sizes_I2: Array, names: Mapping[int, str]) -> Truth:
    """The labels of a split in pixels.

    Args:
        rows: Its pictures with their labels.
        sizes_I2: Height and width of each picture in pixels.
        names: Class names by index.
    """
    boxes, classes, pictures = [np.zeros((0, 4))], [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for i, row in enumerate(rows):
        centre = np.asarray(row.boxes_G4, dtype=np.float64).reshape(-1, 4)
        corners = np.concatenate([centre[:, :2] - centre[:, 2:] / 2, centre[:, :2] + centre[:, 2:] / 2], axis=1)
        boxes.append(corners * np.tile(sizes_I2[i, ::-1], 2))
        classes.append(np.asarray(row.classes_G).reshape(-1).astype(np.int64))
        pictures.append(np.full(len(centre), i, dtype=np.int64))
    return Truth(
        files=tuple(row.file for row in rows),
        sizes_I2=sizes_I2,
        boxes_G4=np.concatenate(boxes),
        classes_G=np.concatenate(classes),
        picture_G=np.concatenate(pictures),
        names=tuple(names[k] for k in sorted(names)),
    )


@dataclass(frozen=True)
class Gathered:
    """What was found in all pictures of a split.

    Args:
        detections: Boxes, scores and classes.
        sizes_I2: Height and width of each picture in pixels.
        masks_D: Run-length encoded mask of each detection; empty for other tasks.
        points_DKC: Key points of each detection; None for other tasks.
    """

    detections: Detections
    sizes_I2: Array
    masks_D: tuple[dict[str, Any], ...] = ()
    points_DKC: Array | None = None


def gather(found: Iterable[FoundInPicture]) -> Gathered:
    """Put what was found in single pictures together.

    Args:
        found: One entry per picture.
    """
    parts: list[list[Array]] = [[np.zeros((0, 4))], [np.zeros(0)], [np.zeros(0, int)], [np.zeros(0, int)]]
    sizes = []
    masks: list[dict[str, Any]] = []
    points = []
    for i, one in enumerate(found):
        arrays = (one.boxes_D4, one.scores_D, one.classes_D, np.full(len(one.scores_D), i))
        for part, array in zip(parts, arrays, strict=True):
            part.append(array)
        sizes.append(one.size)
        if one.masks_DHW is not None:
            masks += encoded(one.masks_DHW)
        if one.points_DKC is not None:
            points.append(one.points_DKC)
    boxes, scores, classes, pictures = (np.concatenate(part) for part in parts)
    return Gathered(
        Detections(boxes, scores, classes.astype(int), pictures.astype(int)),
        np.array(sizes, dtype=np.int64).reshape(-1, 2),
        tuple(masks),
        np.concatenate(points) if points else None,
    )


def shapes_of(seen: Validated, truth: Truth, found: Gathered) -> Shapes | None:
    """Masks or key points of a split, in pixels; None where boxes are all there is.

    Args:
        seen: The labels, in shares of the pictures.
        truth: Their boxes, in pixels.
        found: The detections.
    """
    sides_I2 = found.sizes_I2[:, ::-1]
    if seen.task == "segment":
        outlines = [corners * sides_I2[i] for i, row in enumerate(seen.pictures) for corners in row.outlines_G]
        return masks(truth, outlines, found.masks_D)
    if seen.task == "pose":
        count = len(seen.scales_K)
        parts = [np.zeros((0, count, 3))]
        for i, row in enumerate(seen.pictures):
            if row.points_GKC is None or not len(row.points_GKC):
                continue
            raw = np.asarray(row.points_GKC, dtype=np.float64)
            # Without a visibility of its own a labelled point counts as visible, unless it was left at the corner.
            shown = raw[..., 2:] if raw.shape[-1] == 3 else (raw != 0).any(axis=-1, keepdims=True) * 2.0
            parts.append(np.concatenate([raw[..., :2] * sides_I2[i], shown], axis=-1))
        points = np.zeros((0, count, 2)) if found.points_DKC is None else found.points_DKC
        return key_points(truth, np.concatenate(parts), points, seen.scales_K)
    return None


def measure(
    config: CellConfig,
    folder: Path,
    split: str,
    truth: Truth,
    found: Detections,
    own: dict[str, float | None],
    task: str = "detect",
    shapes: Shapes | None = None,
) -> SplitMetrics:
    """Turn labels and detections into metrics, and write down what the report needs later.

    Args:
        config: The run.
        folder: The cell's folder.
        split: Name of the split.
        truth: The labels.
        found: The detections.
        own: Ultralytics' figures.
        task: What the model is for.
        shapes: The masks or key points that are compared; the boxes by default.
    """
    figures, per_class = coco_metrics(truth, found, shapes)
    digest = truth.digest() if shapes is None else digest_of([truth.digest(), shapes.digest])
    save_detections(folder / f"detections_{split}.npz", truth, found)
    matches = (
        match(truth, found) if shapes is None else match(truth, found, shapes.overlap, shapes.ignored_G, shapes.most)
    )
    _draw(config, folder, split, digest, matches)
    return SplitMetrics(len(truth.files), digest, figures, per_class, own, task, best_threshold(matches))


def measure_rotated(
    config: CellConfig,
    folder: Path,
    split: str,
    seen: Validated,
    found: Iterable[FoundInPicture],
    own: dict[str, float | None],
) -> SplitMetrics:
    """AP of rotated boxes: Ultralytics' own overlap and assignment, averaged like COCO's AP; see :func:`measure`.

    Args:
        config: The run.
        folder: The cell's folder.
        split: Name of the split.
        seen: The labels.
        found: What was found in each picture.
        own: Ultralytics' figures.
    """
    from detgraft.upstream.service.validation import match_rotated

    names = tuple(seen.names[k] for k in sorted(seen.names))
    labelled = np.zeros((len(seen.pictures), len(names)), dtype=np.int64)
    parts: list[list[Array]] = [[np.zeros((0, len(IOUS)), bool)], [np.zeros(0, int)], [np.zeros(0, int)], [np.zeros(0)]]
    known = hashlib.sha256()
    for i, (row, one) in enumerate(zip(seen.pictures, found, strict=True)):
        kinds = np.asarray(row.classes_G).reshape(-1).astype(np.int64)
        labelled[i] = np.bincount(kinds, minlength=len(names))
        arrays = (match_rotated(one, row), one.classes_D.astype(int), np.full(len(one.scores_D), i), one.scores_D)
        for part, array in zip(parts, arrays, strict=True):
            part.append(array)
        known.update(f"{Path(row.file).name} {one.size} {kinds.tolist()}".encode())
        for corners in row.outlines_G:
            known.update(np.round(np.asarray(corners, dtype=np.float64), 5).tobytes())
    known.update("\0".join(names).encode())
    right, classes, pictures, scores = (np.concatenate(part) for part in parts)
    matches = matches_of(right, classes, pictures, scores, labelled)
    figures: dict[str, float | None] = {}
    for name, thresholds in THRESHOLDS.items():
        by_class = average_precision(matches, thresholds=thresholds)
        figures[name] = None if np.isnan(by_class).all() else float(np.nanmean(by_class))
        if name == "AP":
            per_class = {k: None if np.isnan(v) else float(v) for k, v in zip(names, by_class, strict=True)}
    digest = known.hexdigest()
    _draw(config, folder, split, digest, matches)
    return SplitMetrics(len(seen.pictures), digest, figures, per_class, own, "obb", best_threshold(matches))


def measure_classes(
    config: CellConfig, folder: Path, split: str, seen: Validated, own: dict[str, float | None]
) -> SplitMetrics:
    """Accuracy of a classification, by class as well, with precision, recall and F1 as means over the classes.

    Args:
        config: The run.
        folder: The cell's folder.
        split: Name of the split.
        seen: The pictures with their classes, and what was found.
        own: Ultralytics' figures.
    """
    names = [seen.names[k] for k in sorted(seen.names)]
    true_I = np.array([int(row.classes_G[0]) for row in seen.pictures], dtype=np.int64)
    ranked_IC = np.zeros((0, 1), dtype=np.int64) if seen.ranked_IC is None else seen.ranked_IC
    right_I = ranked_IC[:, 0] == true_I
    digest = digest_of([[[Path(row.file).name, int(k)] for row, k in zip(seen.pictures, true_I, strict=True)], names])
    shares = [_shares(ranked_IC[:, 0], true_I, k) for k in range(len(names))]
    known = [share for share in shares if share is not None]
    means = np.mean(known, axis=0) if known else [None] * 3
    if config.bootstrap and len(true_I):
        count = len(true_I)
        random = np.random.default_rng(int(digest[:8], 16))
        weights_BI = random.multinomial(count, np.full(count, 1 / count), size=config.bootstrap)
        write_atomic(folder / f"bootstrap_{split}.npy", _npy(weights_BI @ right_I / count))
    top5 = (ranked_IC == true_I[:, None]).any(axis=1)
    return SplitMetrics(
        len(true_I),
        digest,
        {"top1": float(right_I.mean()), "top5": float(top5.mean())} if len(true_I) else {"top1": None, "top5": None},
        {name: None if share is None else share[1] for name, share in zip(names, shares, strict=True)},
        own,
        "classify",
        {key: None if value is None else float(value) for key, value in zip(("P", "R", "F1"), means, strict=True)},
    )


def _shares(found_I: Array, true_I: Array, k: int) -> tuple[float, float, float] | None:
    """Precision, recall and F1 of a class; None where no picture is of it."""
    hits, shown, there = (
        int(n) for n in (((found_I == k) & (true_I == k)).sum(), (found_I == k).sum(), (true_I == k).sum())
    )
    if not there:
        return None
    precision, recall = hits / shown if shown else 0.0, hits / there
    return precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0


def _draw(config: CellConfig, folder: Path, split: str, digest: str, matches: Matches) -> None:
    """Write the figure that decides under resampled pictures."""
    if config.bootstrap and matches.labelled_IK.shape[0]:
        # Seeded by the pictures, so that every run of the study resamples them alike.
        draws = bootstrap(matches, config.bootstrap, int(digest[:8], 16), THRESHOLDS[config.primary])
        write_atomic(folder / f"bootstrap_{split}.npy", _npy(draws))


def _npy(values: Any) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()
