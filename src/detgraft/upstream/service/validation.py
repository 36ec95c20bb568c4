"""A trained model on a split of its data: Ultralytics' own figures, the labels it reads, and the model's detections.

The pictures pass through the model twice, on purpose. Ultralytics' figures come from batches whose padding depends on
the other pictures of the batch and is up to one stride wider than any of them needs, so the same model finds other
boxes there than in the picture alone; the detections that a study judges come from one picture at a time, as anybody
gets them from ``predict``. Neither can be had from the other's pass without changing its figures.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detgraft.upstream.model.models import YOLO
from detgraft.upstream.service.training import device_name

Array = npt.NDArray[Any]

MAX_DETECTIONS = 300
"""Per picture; Ultralytics' own limit for validation."""


@dataclass(frozen=True)
class LabelledPicture:
    """The labels of a picture as Ultralytics validates on them: the unreadable and the doubled are left out already.

    Args:
        file: The picture.
        classes_G: Class of each box.
        boxes_G4: Centre, width and height of each box in shares of the picture.
    """

    file: str
    classes_G: Array
    boxes_G4: Array


@dataclass(frozen=True)
class Validated:
    """What Ultralytics found on a split.

    Args:
        figures: Its own figures by its own names.
        pictures: The split's pictures with their labels, by file name.
        names: Class names by index.
        has_test: Whether the data has a test split.
    """

    figures: Mapping[str, float | None]
    pictures: tuple[LabelledPicture, ...]
    names: Mapping[int, str]
    has_test: bool

    def figure(self, name: str) -> float:
        """One of Ultralytics' figures; 0 where it has none, as it shows it.

        Args:
            name: Its name without the kind of task, such as ``mAP50-95``.
        """
        return next((value for key, value in self.figures.items() if key.startswith(f"metrics/{name}(") and value), 0.0)


@dataclass(frozen=True)
class FoundInPicture:
    """What a model found in one picture.

    Args:
        boxes_D4: Left, top, right and bottom in pixels.
        scores_D: Scores, 0 to 1.
        classes_D: Class of each box.
        size: Height and width of the picture in pixels.
    """

    boxes_D4: Array
    scores_D: Array
    classes_D: Array
    size: tuple[int, int]


def validate(
    weights: str,
    data: str,
    split: str,
    imgsz: int,
    batch: int,
    folder: Path,
    device: str | None = None,
    classes: Sequence[int] | None = None,
) -> Validated:
    """Run Ultralytics' own validation.

    Args:
        weights: The checkpoint.
        data: The data YAML, or a name that Ultralytics knows.
        split: ``val`` or ``test``.
        imgsz: Side in pixels.
        batch: Batch size.
        folder: Where Ultralytics may write.
        device: Where to run; the GPU that is visible by default.
        classes: The classes that are measured, whose labels alone are read; all by default.
    """
    model = YOLO(weights)
    seen: list[Any] = []
    model.add_callback("on_val_end", seen.append)
    figures = model.val(
        data=data,
        split=split,
        imgsz=imgsz,
        batch=batch,
        device=device or device_name(),
        workers=0,
        plots=False,
        verbose=False,
        project=str(folder.parent),
        name=folder.name,
        exist_ok=True,
        classes=None if classes is None else list(classes),
    )
    validator = seen[-1]
    rows = sorted(validator.dataloader.dataset.labels, key=lambda row: str(row["im_file"]))
    return Validated(
        figures={str(key): None if value is None else float(value) for key, value in figures.results_dict.items()},
        pictures=tuple(LabelledPicture(str(row["im_file"]), row["cls"], row["bboxes"]) for row in rows),
        names={int(index): str(name) for index, name in validator.data["names"].items()},
        has_test=bool(validator.data.get("test")),
    )


def detect(
    weights: str,
    files: Sequence[str],
    imgsz: int,
    lowest: float,
    overlap: float,
    device: str | None = None,
    classes: Sequence[int] | None = None,
) -> Iterator[FoundInPicture]:
    """Run a checkpoint over pictures, one at a time so that no picture's padding depends on another.

    Args:
        weights: The checkpoint.
        files: The pictures.
        imgsz: Side in pixels.
        lowest: Least score that is kept.
        overlap: IoU of non-maximum suppression.
        device: Where to run; the GPU that is visible by default.
        classes: The classes that are looked for; all by default.

    Yields:
        What was found in each picture, in order.
    """
    model = YOLO(weights)
    where = device or device_name()
    settings: dict[str, Any] = {"classes": None if classes is None else list(classes)}
    settings |= {"conf": lowest, "iou": overlap, "max_det": MAX_DETECTIONS, "imgsz": imgsz, "device": where}
    for file in files:
        # A list of files would be read as one batch, whatever batch= says, and padded to a square unless all its
        # pictures had one shape. A star in a path would be searched for.
        source = glob.escape(file) if "*" in file else file
        (result,) = model.predict(source, verbose=False, save=False, **settings)
        raw = result.boxes
        values = (raw.xyxy.reshape(-1, 4), raw.conf.reshape(-1), raw.cls.reshape(-1))
        boxes, scores, numbers = (value.cpu().numpy().astype(np.float64) for value in values)
        height, width = result.orig_shape
        yield FoundInPicture(boxes, scores, numbers, (int(height), int(width)))
