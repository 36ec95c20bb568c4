"""Checking YOLO label files and ``classes.txt`` before a training run meets them.

Stock Ultralytics drops a picture with a malformed label and goes on; here the first such line is an error that names
its file and line.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detgraft.datasets.text import read_text
from detgraft.errors import DataError, Location

IMAGE_SUFFIXES = frozenset(
    (
        ".avif",
        ".bmp",
        ".dng",
        ".heic",
        ".heif",
        ".jp2",
        ".jpeg",
        ".jpg",
        ".mpo",
        ".pfm",
        ".png",
        ".tif",
        ".tiff",
        ".webp",
    )
)
"""File name endings that Ultralytics takes for pictures (union over its releases)."""

TOLERANCE = 0.01
"""How far a coordinate may lie outside of 0 to 1; Ultralytics drops the picture beyond it."""

EDGE = 1e-3
"""How far a box may reach over the picture's edge, as a share of the picture, before it is said; editors round."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a label row.

    Args:
        text: What was expected and found.
        usable: Ultralytics trains with the row all the same.
    """

    text: str
    usable: bool = False


def list_images(folder: Path) -> list[Path]:
    """All pictures in a folder and the folders in it, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def label_file(image: Path) -> Path:
    """Where Ultralytics looks for a picture's labels: the last folder called ``images`` becomes ``labels``.

    Raises:
        DataError: No folder of the path is called ``images``.
    """
    head, found, tail = str(image).rpartition(f"{os.sep}images{os.sep}")
    if not found:
        raise DataError(
            "the picture is in no folder called 'images' (after links are followed), so Ultralytics cannot find its "
            "labels: expected .../images/... with the labels in .../labels/...",
            Location(str(image)),
        )
    return Path(f"{head}{os.sep}labels{os.sep}{tail}").with_suffix(".txt")


def is_labelled(image: Path) -> bool:
    """Whether there is any label of a picture."""
    path = label_file(image)
    return path.is_file() and bool(read_text(path)[0].strip())


def read_classes(path: Path) -> list[str]:
    """Class names from a ``classes.txt``: one per line, in the order of their indices.

    Raises:
        DataError: No names in it, or an empty line between names (the indices after it would be a guess).
    """
    text, _ = read_text(path)
    names = [line.strip() for line in text.rstrip().splitlines()]
    if not names:
        raise DataError("expected one class name per line, found an empty file", Location(str(path)))
    for number, name in enumerate(names, start=1):
        if not name:
            raise DataError("expected a class name, found an empty line between names", Location(str(path), number))
    return names


def row_fault(row: str, classes: int | None = None, kpt_shape: Sequence[int] | None = None) -> Fault | None:
    """Check one label row; the one rule for training, `detgraft check` and pretraining.

    Five numbers are a box: class, centre x, centre y, width, height, relative to the picture. With ``kpt_shape`` a row
    is a box and its key points. Otherwise more numbers are a polygon or a turned box (pairs of coordinates), or, where
    they make no pairs, a box and key points of three numbers.

    Args:
        row: The text of the row.
        classes: Number of classes, if known.
        kpt_shape: Number of key points and of values for each (2, or 3 with a visibility of 0, 1 or 2).

    Returns:
        The first fault, or None.
    """
    fields = row.split()
    if len(fields) < 5:
        return Fault(
            f"expected at least 5 numbers (class, centre x, centre y, width, height), found {len(fields)}: "
            f"{row.strip()[:60]!r}"
        )
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = [math.nan]
    if not all(math.isfinite(value) for value in values):
        return Fault(f"expected numbers only, found {row.strip()[:60]!r}")
    if values[0] < 0 or values[0] != int(values[0]):
        return Fault(f"expected a class index (whole number from 0), found {fields[0]!r}")
    if classes is not None and values[0] >= classes:
        return Fault(f"class {values[0]:g}, but the data set has classes 0 to {classes - 1}")
    if kpt_shape is not None and len(values) != 5:  # a detector trains on the boxes of such a set, too
        return _key_points_fault(values, kpt_shape) or _box_fault(values[1:5])
    if len(values) == 5:
        return _box_fault(values[1:])
    points, rest = divmod(len(values) - 5, 3)
    if points and not rest and len(values) % 2 == 0:  # no polygon: a box and key points, of a set that does not say so
        return _key_points_fault(values, (points, 3)) or _box_fault(values[1:5])
    return _polygon_fault(values[1:])


def _outside(values: Sequence[float]) -> float | None:
    return next((value for value in values if not -TOLERANCE <= value <= 1 + TOLERANCE), None)


def _box_fault(box: Sequence[float]) -> Fault | None:
    if _outside(box) is not None:
        shown = " ".join(f"{value:g}" for value in box)
        return Fault(f"expected a box relative to the picture (numbers from 0 to 1), found {shown}")
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return Fault(f"the box is empty ({width:g} x {height:g})")
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if min(corners) < -EDGE or max(corners) > 1 + EDGE:
        shown = ", ".join(f"{corner:.3f}" for corner in corners)
        return Fault(f"the box reaches outside of the picture ({shown})", usable=True)
    return None


def _polygon_fault(coordinates: Sequence[float]) -> Fault | None:
    if len(coordinates) < 6 or len(coordinates) % 2:
        return Fault(
            "expected 4 numbers behind the class for a box, or at least 3 pairs for a polygon; found "
            f"{len(coordinates)}"
        )
    outside = _outside(coordinates)
    if outside is not None:
        return Fault(f"the coordinate {outside:g} lies outside of the picture (expected 0 to 1)")
    xs, ys = coordinates[::2], coordinates[1::2]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    return Fault(f"the polygon is empty ({width:g} x {height:g})") if width <= 0 or height <= 0 else None


def _key_points_fault(values: Sequence[float], kpt_shape: Sequence[int]) -> Fault | None:
    points, size = int(kpt_shape[0]), int(kpt_shape[1])
    if len(values) != 5 + points * size:
        return Fault(
            f"expected 5 numbers and {points} key points of {size} ({5 + points * size} in all), found {len(values)}"
        )
    for start in range(5, len(values), size):
        outside = _outside(values[start : start + 2])
        if outside is not None:
            return Fault(f"the key point coordinate {outside:g} lies outside of the picture (expected 0 to 1)")
        if size == 3 and values[start + 2] not in (0, 1, 2):
            return Fault(f"a key point's visibility is 0, 1 or 2, found {values[start + 2]:g}")
    return None


def check_labels(
    images: Iterable[Path],
    names: Sequence[str] | None,
    names_source: str,
    kpt_shape: Sequence[int] | None = None,
) -> tuple[int, int]:
    """Check the label files of some pictures; a picture without one is background, as in Ultralytics.

    Args:
        images: The pictures, with links followed.
        names: Class names, if known.
        names_source: Where the names come from, for the message.
        kpt_shape: As in :func:`row_fault`.

    Returns:
        Number of label files found, and the highest class index in them (-1 when all are empty).

    Raises:
        DataError: A malformed row, or a class index without a name; names file and line.
    """
    found, highest = 0, -1
    for image in images:
        path = label_file(image)
        if not path.is_file():
            continue
        found += 1
        text, _ = read_text(path)
        for number, row in enumerate(text.splitlines(), start=1):
            if not row.strip():
                continue
            location = Location(str(path), number)
            fault = row_fault(row, kpt_shape=kpt_shape)
            if fault is not None and not fault.usable:
                raise DataError(fault.text, location)
            index = int(float(row.split()[0]))
            if names is not None and index >= len(names):
                raise DataError(
                    f"expected a class index from 0 to {len(names) - 1} ({len(names)} names in {names_source}), "
                    f"found {index}",
                    location,
                )
            highest = max(highest, index)
    return found, highest
