"""The pictures on which a variant and the base disagree most, with what each of them found."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from detgraft.study.judge.detections import SURE, Array, Detections, Truth, errors_by_picture, iou, load_detections
from detgraft.study.report.boxes import draw_box
from detgraft.study.run.store import Cell

WIDTH = 340
MOST = 15  # pictures in a report, over all variants


@dataclass(frozen=True)
class Disagreement:
    """One picture.

    Args:
        file: Its name.
        seed: Seed of the two runs that are shown.
        base_errors: Missed and false boxes of the base, mean over seeds.
        variant_errors: The same of the variant.
        base_image: The base's boxes on the picture, as a data URL.
        variant_image: The variant's.
    """

    file: str
    seed: int
    base_errors: float
    variant_errors: float
    base_image: str
    variant_image: str


def disagreements(base: list[Cell], variant: list[Cell], split: str, count: int) -> list[Disagreement]:
    """Find and draw the pictures with the largest difference in missed and false boxes.

    Args:
        base: Finished cells of the base.
        variant: Finished cells of the variant, for the same seeds in the same order.
        split: Split whose detections are compared.
        count: How many pictures.

    Returns:
        The largest differences first; pictures without any difference, or whose file is gone, are left out.
    """
    pairs = [[load_detections(cell.folder / f"detections_{split}.npz") for cell in arm] for arm in (base, variant)]
    errors_RI = [np.array([errors_by_picture(truth, found) for truth, found in arm]) for arm in pairs]
    difference_SI = errors_RI[1] - errors_RI[0]
    mean_I = difference_SI.mean(axis=0)
    result: list[Disagreement] = []
    for index in np.argsort(-np.abs(mean_I), kind="stable"):
        truth = pairs[0][0][0]
        path = Path(truth.files[index])
        if mean_I[index] == 0 or len(result) == count:
            break
        if not path.is_file():
            continue
        # The seed that is typical of the mean, not the one that looks most dramatic.
        run = int(np.argmin(np.abs(difference_SI[:, index] - mean_I[index])))
        images = [_draw(path, truth, arm[run][1], int(index)) for arm in pairs]
        means = [float(errors[:, index].mean()) for errors in errors_RI]
        result.append(Disagreement(path.name, base[run].seed, means[0], means[1], images[0], images[1]))
    return result


def marks(truth: Truth, found: Detections, index: int) -> tuple[Array, Array, Array]:
    """Right, false and missed boxes of one picture at IoU 0.5, among detections with a score of 0.25 or more."""
    boxes = marked(truth, found, index)

    def of(kind: str) -> Array:
        return np.asarray([box for box, own, _, _ in boxes if own == kind], dtype=np.float64).reshape(-1, 4)

    return of("right"), of("false"), of("missed")


def marked(truth: Truth, found: Detections, index: int) -> list[tuple[Array, str, int, float | None]]:
    """Every box of one picture with its kind (``right``, ``false``, ``missed``), class and score.

    A detection counts from a score of 0.25 on; it is right at an IoU of 0.5 with a labelled box of its class that no
    surer detection has taken.
    """
    labels = np.flatnonzero(truth.picture_G == index)
    chosen = np.flatnonzero((found.picture_D == index) & (found.scores_D >= SURE))
    chosen = chosen[np.argsort(-found.scores_D[chosen], kind="stable")]
    free = np.ones(len(labels), dtype=bool)
    right = np.zeros(len(chosen), dtype=bool)
    overlap = iou(found.boxes_D4[chosen], truth.boxes_G4[labels])
    same = found.classes_D[chosen][:, None] == truth.classes_G[labels][None]
    for d in range(len(chosen)):
        candidates = np.where(free & same[d], overlap[d], -1.0)
        if len(candidates) and candidates.max() >= 0.5:
            free[int(np.argmax(candidates))] = False
            right[d] = True
    result: list[tuple[Array, str, int, float | None]] = [
        (found.boxes_D4[d], "right" if right[k] else "false", int(found.classes_D[d]), float(found.scores_D[d]))
        for k, d in enumerate(chosen)
    ]
    return result + [(truth.boxes_G4[g], "missed", int(truth.classes_G[g]), None) for g in labels[free]]


def _draw(path: Path, truth: Truth, found: Detections, index: int) -> str:
    """The picture with its boxes, small, as a data URL."""
    with Image.open(path) as opened:
        picture: Any = ImageOps.exif_transpose(opened).convert("RGB")
    factor = WIDTH / picture.width
    picture = picture.resize((WIDTH, max(round(picture.height * factor), 1)))
    pen = ImageDraw.Draw(picture)
    for box, kind, _, _ in marked(truth, found, index):
        draw_box(pen, [float(value) * factor for value in box], kind)
    buffer = BytesIO()
    picture.save(buffer, format="JPEG", quality=72, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
