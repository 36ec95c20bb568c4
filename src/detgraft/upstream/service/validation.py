"""A trained model on a split of its data: Ultralytics' own figures, the labels it reads, and the model's detections.

The pictures pass through the model twice, on purpose. Ultralytics' figures come from batches whose padding depends on
the other pictures of the batch and is up to one stride wider than any of them needs, so the same model finds other
boxes there than in the picture alone; the detections that a study judges come from one picture at a time, as anybody
gets them from ``predict``. Neither can be had from the other's pass without changing its figures.
"""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import ultralytics

from detgraft.errors import UpstreamError
from detgraft.upstream.model import opening
from detgraft.upstream.model.models import YOLO
from detgraft.upstream.release.quiet import quiet
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
        outlines_G: Corners of each outline or rotated box in shares of the picture, shape (N, 2) each; empty without.
        points_GKC: x and y of each object's key points in shares of the picture and, with C = 3, visibility; None
            without.
    """

    file: str
    classes_G: Array
    boxes_G4: Array
    outlines_G: tuple[Array, ...] = ()
    points_GKC: Array | None = None


@dataclass(frozen=True)
class Validated:
    """What Ultralytics found on a split.

    Args:
        figures: Its own figures by its own names.
        pictures: The split's pictures with their labels, by file name.
        names: Class names by index.
        has_test: Whether the data has a test split.
        task: What the model is for.
        scales_K: Of each key point, how far off it may be (OKS); empty for other tasks.
        ranked_IC: For classification the classes of each picture, the likeliest first, up to five; None otherwise.
    """

    figures: Mapping[str, float | None]
    pictures: tuple[LabelledPicture, ...]
    names: Mapping[int, str]
    has_test: bool
    task: str = "detect"
    scales_K: tuple[float, ...] = ()
    ranked_IC: Array | None = None

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
        masks_DHW: Mask of each object at the picture's own size; None for other tasks.
        points_DKC: Key points of each object in pixels; None for other tasks.
        rotated_D5: Centre, width, height and angle (radians) of each rotated box in pixels; None for other tasks.
    """

    boxes_D4: Array
    scores_D: Array
    classes_D: Array
    size: tuple[int, int]
    masks_DHW: Array | None = None
    points_DKC: Array | None = None
    rotated_D5: Array | None = None


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
    validator, task = seen[-1], str(model.task)
    own = {str(key): None if value is None else float(value) for key, value in figures.results_dict.items()}
    names = {int(index): str(name) for index, name in validator.data["names"].items()}
    has_test = bool(validator.data.get("test"))
    if task == "classify":
        files, ranked = _classified(validator)
        return Validated(own, files, names, has_test, task, ranked_IC=ranked)
    rows = sorted(validator.dataloader.dataset.labels, key=lambda row: str(row["im_file"]))
    pictures = tuple(
        LabelledPicture(
            str(row["im_file"]),
            row["cls"],
            row["bboxes"],
            tuple(np.asarray(outline) for outline in row.get("segments") or ()),
            row.get("keypoints"),
        )
        for row in rows
    )
    scales = tuple(float(scale) for scale in validator.sigma) if task == "pose" else ()
    return Validated(own, pictures, names, has_test, task, scales)


def _classified(validator: Any) -> tuple[tuple[LabelledPicture, ...], Array]:
    """The pictures of a classification with their class, by file name, and the classes that were found."""
    ranked_IC = torch.cat(validator.pred).numpy()
    targets_I = torch.cat(validator.targets).numpy().reshape(-1)
    files = [str(sample[0]) for sample in validator.dataloader.dataset.samples]
    if not len(files) == len(targets_I) == len(ranked_IC):
        raise UpstreamError(
            f"Ultralytics {ultralytics.__version__} classified {len(ranked_IC)} pictures of {len(files)}, so that"
            " nothing tells which picture is which."
        )
    order = sorted(range(len(files)), key=lambda i: files[i])
    none = np.zeros((0, 4))
    return tuple(LabelledPicture(files[i], targets_I[i : i + 1], none) for i in order), ranked_IC[order]


def match_rotated(found: FoundInPicture, labelled: LabelledPicture) -> Array:
    """Which rotated boxes are right, by Ultralytics' own matching: its overlap of rotated boxes and its assignment.

    Args:
        found: The detections of a picture, by falling score.
        labelled: Its labels.

    Returns:
        Whether each detection is right at IoU 0.50, 0.55, ... 0.95, shape (D, 10).
    """
    from ultralytics.engine.validator import BaseValidator
    from ultralytics.utils import metrics, ops

    thresholds = torch.linspace(0.5, 0.95, 10)
    classes_G = torch.as_tensor(np.asarray(labelled.classes_G).reshape(-1))
    if found.rotated_D5 is None or not len(found.rotated_D5) or not len(classes_G):
        return np.zeros((len(found.scores_D), len(thresholds)), dtype=bool)
    height, width = found.size
    corners = [np.asarray(outline, dtype=np.float64) * (width, height) for outline in labelled.outlines_G]
    boxes_G5 = torch.as_tensor(np.stack([_rotated(ops, one) for one in corners])).float()
    overlap_GD = metrics.batch_probiou(boxes_G5, torch.as_tensor(found.rotated_D5).float())
    # Of a validator the assignment reads the thresholds alone.
    stand_in = cast(Any, SimpleNamespace(iouv=thresholds))
    right = BaseValidator.match_predictions(stand_in, torch.as_tensor(found.classes_D), classes_G, overlap_GD)
    return np.asarray(right.cpu().numpy(), dtype=bool)


def _rotated(ops: Any, corners_N2: Array) -> Array:
    return np.asarray(ops.xyxyxyxy2xywhr(corners_N2.reshape(1, -1).astype(np.float32))).reshape(5)


def names_in(weights: str) -> dict[int, str]:
    """Return the class names of a checkpoint by index."""
    return {int(key): str(value) for key, value in YOLO(weights).names.items()}


def trained_size(weights: str) -> int | None:
    """Return the side in pixels of the pictures that a checkpoint was trained with; None where it does not say."""
    size = YOLO(weights).overrides.get("imgsz")
    sides = [side for side in (size if isinstance(size, (list, tuple)) else [size]) if isinstance(side, int)]
    return max(sides, default=None)


@contextlib.contextmanager
def looking(trust: bool) -> Iterator[None]:
    """Open and run checkpoints inside without a word of Ultralytics; with ``trust`` they may run the code they hold.

    Args:
        trust: See :func:`detgraft.upstream.model.opening.trusting`.
    """
    with quiet(), opening.trusting(trust):
        yield


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
    if model.task == "segment":
        settings["retina_masks"] = True  # masks at the picture's own size, as the labels have it
    settings |= {"conf": lowest, "iou": overlap, "max_det": MAX_DETECTIONS, "imgsz": imgsz, "device": where}
    for file in files:
        # A list of files would be read as one batch, whatever batch= says, and padded to a square unless all its
        # pictures had one shape. A star in a path would be searched for.
        source = glob.escape(file) if "*" in file else file
        (result,) = model.predict(source, verbose=False, save=False, **settings)
        raw = result.boxes if result.obb is None else result.obb
        values = (raw.xyxy.reshape(-1, 4), raw.conf.reshape(-1), raw.cls.reshape(-1))
        boxes, scores, numbers = (value.cpu().numpy().astype(np.float64) for value in values)
        height, width = (int(side) for side in result.orig_shape)
        masks = points = rotated = None
        if model.task == "segment":
            empty = np.zeros((0, height, width), dtype=bool)
            masks = empty if result.masks is None else result.masks.data.cpu().numpy() > 0
        elif model.task == "pose":
            points = result.keypoints.data.cpu().numpy().astype(np.float64)[: len(scores)]
        elif model.task == "obb":
            rotated = raw.xywhr.cpu().numpy().astype(np.float64).reshape(-1, 5)
        yield FoundInPicture(boxes, scores, numbers, (height, width), masks, points, rotated)
