"""Measures a trained model on the validation and test split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from detgraft.base.files import write_atomic
from detgraft.study.design.config import CellConfig
from detgraft.study.judge.coco import coco_metrics
from detgraft.study.judge.detections import Array, Detections, Truth, bootstrap, match, save_detections
from detgraft.study.judge.result import SplitMetrics
from detgraft.study.run.training import device_name

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
    from detgraft.upstream.model.models import YOLO

    found: dict[str, SplitMetrics] = {}
    splits = ["val"]
    for split in splits:
        model = YOLO(str(folder / "best.pt"))
        seen: list[Any] = []
        model.add_callback("on_val_end", seen.append)
        figures = model.val(
            data=config.data,
            split=split,
            imgsz=config.train["imgsz"],
            batch=config.train["batch"],
            device=device_name(),
            workers=0,
            plots=False,
            verbose=False,
            project=str(folder),
            name=f"eval_{split}",
            exist_ok=True,
        )
        validator = seen[-1]
        if split == "val" and config.split != "val" and validator.data.get("test"):
            splits.append("test")
        rows = sorted(validator.dataloader.dataset.labels, key=lambda row: str(row["im_file"]))
        files = [str(row["im_file"]) for row in rows]
        detections, sizes_I2 = predict(str(folder / "best.pt"), files, int(config.train["imgsz"]))
        truth = truth_of(rows, sizes_I2, validator.data["names"])
        own = {key: _number(value) for key, value in figures.results_dict.items()}
        found[split] = measure(config, folder, split, truth, detections, own)
    return found


def truth_of(rows: Sequence[Mapping[str, Any]], sizes_I2: Array, names: Mapping[int, str]) -> Truth:
    """The labels that Ultralytics validates on, with unreadable pictures and doubled labels already left out.

    Args:
        rows: The labels of Ultralytics' validation data set: ``im_file``, ``cls``, and ``bboxes`` as centre, width and
            height in shares of the picture.
        sizes_I2: Height and width of each picture in pixels.
        names: Class names by index.
    """
    boxes, classes, pictures = [np.zeros((0, 4))], [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for i, row in enumerate(rows):
        centre = np.asarray(row["bboxes"], dtype=np.float64).reshape(-1, 4)
        corners = np.concatenate([centre[:, :2] - centre[:, 2:] / 2, centre[:, :2] + centre[:, 2:] / 2], axis=1)
        boxes.append(corners * np.tile(sizes_I2[i, ::-1], 2))
        classes.append(np.asarray(row["cls"]).reshape(-1).astype(np.int64))
        pictures.append(np.full(len(centre), i, dtype=np.int64))
    return Truth(
        files=tuple(str(row["im_file"]) for row in rows),
        sizes_I2=sizes_I2,
        boxes_G4=np.concatenate(boxes),
        classes_G=np.concatenate(classes),
        picture_G=np.concatenate(pictures),
        names=tuple(str(names[k]) for k in sorted(names)),
    )


def predict(weights: str, files: Sequence[str], imgsz: int) -> tuple[Detections, Array]:
    """Run a checkpoint over pictures, one at a time so that no picture's padding depends on another.

    Args:
        weights: The checkpoint.
        files: The pictures.
        imgsz: Side in pixels.

    Returns:
        The detections, and height and width of each picture in pixels, shape (I, 2).
    """
    from detgraft.upstream.model.models import YOLO

    model = YOLO(weights)
    parts: list[list[Array]] = [[np.zeros((0, 4))], [np.zeros(0)], [np.zeros(0, int)], [np.zeros(0, int)]]
    sizes = []
    results: Iterator[Any] = model.predict(
        list(files),
        stream=True,
        batch=1,
        conf=LOWEST,
        iou=OVERLAP,
        max_det=300,
        imgsz=imgsz,
        device=device_name(),
        verbose=False,
        save=False,
    )
    for i, result in enumerate(results):
        raw = result.boxes
        values = (raw.xyxy.reshape(-1, 4), raw.conf.reshape(-1), raw.cls.reshape(-1))
        arrays = [value.cpu().numpy().astype(np.float64) for value in values]
        for part, array in zip(parts, [*arrays, np.full(len(raw), i)], strict=True):
            part.append(array)
        sizes.append(result.orig_shape)
    boxes, scores, classes, pictures = (np.concatenate(part) for part in parts)
    found = Detections(boxes, scores, classes.astype(int), pictures.astype(int))
    return found, np.array(sizes, dtype=np.int64).reshape(-1, 2)


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


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
