"""Checking YOLO label files and ``classes.txt`` before a training run meets them.

Stock Ultralytics drops a picture with a malformed label and goes on; here the first such line is an error that names
its file and line.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
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

_BOX_TOLERANCE = 0.01


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


def check_row(row: str, location: Location) -> int:
    """Check one label row and return its class index.

    Five numbers are a box: class, centre x, centre y, width, height, relative to the picture. More numbers are a
    polygon, key points or a turned box and are left to the task that reads them.

    Raises:
        DataError: Fewer than five numbers, something that is not a number, a class that is not a whole number of at
            least 0, or a box that is not within 0..1.
    """
    fields = row.split()
    if len(fields) < 5:
        raise DataError(
            f"expected at least 5 numbers (class, centre x, centre y, width, height), found {len(fields)}: "
            f"{row.strip()!r}",
            location,
        )
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = [math.nan]
    if not all(math.isfinite(value) for value in values):
        raise DataError(f"expected numbers only, found {row.strip()!r}", location)
    if values[0] < 0 or values[0] != int(values[0]):
        raise DataError(f"expected a class index (whole number from 0), found {fields[0]!r}", location)
    if len(values) == 5 and not all(-_BOX_TOLERANCE <= value <= 1 + _BOX_TOLERANCE for value in values[1:]):
        raise DataError(
            f"expected a box relative to the picture (numbers from 0 to 1), found {' '.join(fields[1:])}", location
        )
    return int(values[0])


def check_labels(images: Iterable[Path], names: Sequence[str] | None, names_source: str) -> tuple[int, int]:
    """Check the label files of some pictures; a picture without one is background, as in Ultralytics.

    Args:
        images: The pictures, with links followed.
        names: Class names, if known.
        names_source: Where the names come from, for the message.

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
            index = check_row(row, location)
            if names is not None and index >= len(names):
                raise DataError(
                    f"expected a class index from 0 to {len(names) - 1} ({len(names)} names in {names_source}), "
                    f"found {index}",
                    location,
                )
            highest = max(highest, index)
    return found, highest
