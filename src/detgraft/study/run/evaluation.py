"""Measures a trained model on the validation and test split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from detgraft.base.files import write_atomic
from detgraft.study.design.config import CellConfig
from detgraft.study.judge.coco import coco_metrics
from detgraft.study.judge.detections import Array, Detections, Truth, bootstrap, match, save_detections
from detgraft.study.judge.result import SplitMetrics

if TYPE_CHECKING:
    from detgraft.upstream.service.validation import FoundInPicture, LabelledPicture

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
    """Measure with Ultralytics and faster-coco-eval; see :class:`Evaluator`."""
    from detgraft.upstream.service import validation

    best, imgsz, batch = str(folder / "best.pt"), int(config.train["imgsz"]), int(config.train["batch"])
    classes = config.train.get("classes")  # what was trained is what is measured
    found: dict[str, SplitMetrics] = {}
    splits = ["val"]
    for split in splits:
        seen = validation.validate(best, config.data, split, imgsz, batch, folder / f"eval_{split}", classes=classes)
        if split == "val" and config.split != "val" and seen.has_test:
            splits.append("test")
        files = [picture.file for picture in seen.pictures]
        detections, sizes_I2 = gather(validation.detect(best, files, imgsz, LOWEST, OVERLAP, classes=classes))
        truth = truth_of(seen.pictures, sizes_I2, seen.names)
        found[split] = measure(config, folder, split, truth, detections, dict(seen.figures))
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


def gather(found: Iterable[FoundInPicture]) -> tuple[Detections, Array]:
    """Put what was found in single pictures together.

    Args:
        found: One entry per picture.

    Returns:
        The detections, and height and width of each picture in pixels, shape (I, 2).
    """
    parts: list[list[Array]] = [[np.zeros((0, 4))], [np.zeros(0)], [np.zeros(0, int)], [np.zeros(0, int)]]
    sizes = []
    for i, one in enumerate(found):
        arrays = (one.boxes_D4, one.scores_D, one.classes_D, np.full(len(one.scores_D), i))
        for part, array in zip(parts, arrays, strict=True):
            part.append(array)
        sizes.append(one.size)
    boxes, scores, classes, pictures = (np.concatenate(part) for part in parts)
    detections = Detections(boxes, scores, classes.astype(int), pictures.astype(int))
    return detections, np.array(sizes, dtype=np.int64).reshape(-1, 2)


def measure(
    config: CellConfig, folder: Path, split: str, truth: Truth, found: Detections, own: dict[str, float | None]
) -> SplitMetrics:
    """Turn labels and detections into metrics, and write down what the report needs later.

    Args:
        config: The run.
        folder: The cell's folder.
        split: Name of the split.
        truth: The labels.
        found: The detections.
        own: Ultralytics' figures.
    """
    figures, per_class = coco_metrics(truth, found)
    digest = truth.digest()
    save_detections(folder / f"detections_{split}.npz", truth, found)
    if config.bootstrap and len(truth.files):
        # Seeded by the pictures, so that every run of the study resamples them alike.
        draws = bootstrap(match(truth, found), config.bootstrap, int(digest[:8], 16), THRESHOLDS[config.primary])
        write_atomic(folder / f"bootstrap_{split}.npy", _npy(draws))
    return SplitMetrics(len(truth.files), digest, figures, per_class, own)


def _npy(values: Any) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()
