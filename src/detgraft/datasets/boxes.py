"""Boxes as COCO JSON and VOC XML hold them, on their way to the folders and label files that a detector reads.

The user's files are only read. The pictures are linked into a folder of their own (copied where that cannot be), with
label files beside it, since Ultralytics finds labels by their folder's name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from detgraft.base.files import write_atomic
from detgraft.errors import DataError, Location

_JPEG = (".jpg", ".jpeg")


@dataclass(frozen=True)
class BoxedPicture:
    """A picture with its boxes.

    Args:
        file: The picture.
        boxes: Class index, and left, top, width, height as shares of the picture.
    """

    file: Path
    boxes: tuple[tuple[int, float, float, float, float], ...]


@dataclass
class Counts:
    """What was read, and what was left out.

    Args:
        pictures: Number of pictures by split.
        boxes: Number of boxes by split.
        crowd: COCO's regions of several objects in one, which its own evaluation does not count as labels.
        difficult: VOC's objects that are marked as difficult, which its own evaluation leaves out.
        clipped: Boxes that reached over the picture's edge.
        empty: Boxes without an area.
    """

    pictures: dict[str, int] = field(default_factory=dict)
    boxes: dict[str, int] = field(default_factory=dict)
    crowd: int = 0
    difficult: int = 0
    clipped: int = 0
    empty: int = 0

    def text(self) -> str:
        """Return the counts as one sentence."""
        splits = ", ".join(
            f"{split} {self.pictures[split]} pictures with {self.boxes[split]} boxes" for split in self.pictures
        )
        left = {
            "crowd regions": self.crowd,
            "difficult objects": self.difficult,
            "boxes without an area": self.empty,
        }
        out = ", ".join(f"{number} {what}" for what, number in left.items() if number)
        edge = f"; {self.clipped} boxes were cut off at the picture's edge" if self.clipped else ""
        return splits + (f"; left out: {out}" if out else "") + edge


@dataclass(frozen=True)
class BoxedSet:
    """A data set in one of the formats.

    Args:
        source: The folder or file that was given.
        form: ``COCO JSON`` or ``VOC XML``.
        names: Class names in the order of their indices.
        splits: Pictures by split.
        counts: What was read.
        read: The annotation files.
    """

    source: Path
    form: str
    names: tuple[str, ...]
    splits: Mapping[str, Sequence[BoxedPicture]]
    counts: Counts
    read: tuple[Path, ...]


def share_of(
    box: tuple[float, float, float, float], size: tuple[int, int], counts: Counts
) -> tuple[float, float, float, float] | None:
    """Bring a box in pixels to shares of the picture; None for one without an area.

    Args:
        box: Left, top, right, bottom.
        size: Width and height of the picture.
        counts: Told of what was cut off or left out.
    """
    width, height = size
    left, right = max(box[0], 0.0), min(box[2], float(width))
    top, bottom = max(box[1], 0.0), min(box[3], float(height))
    if right <= left or bottom <= top:
        counts.empty += 1
        return None
    if max(left - box[0], box[2] - right, top - box[1], box[3] - bottom) > 1.0:  # programs round by a pixel
        counts.clipped += 1
    return left / width, top / height, (right - left) / width, (bottom - top) / height


def write_set(found: BoxedSet, folder: Path) -> Path:
    """Write what a detector reads, and return its data YAML; what is there already and is the same is taken.

    Args:
        found: The data set.
        folder: Where to; a new folder below it is named after the content.

    Raises:
        DataError: The folder cannot be written, or a split is empty.
    """
    for split in ("train", "val"):
        if not found.splits.get(split):
            raise DataError(f"there are no pictures in the {split} split", Location(str(found.source)))
    target = folder / f"{_plain(found.form)}-{_identity(found)}"
    data = target / "data.yaml"
    if data.is_file():
        return data
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
        try:
            for split, pictures in found.splits.items():
                _write_split(part, split, pictures)
            text = yaml.safe_dump(
                {
                    **{split: (target / "images" / split).absolute().as_posix() for split in found.splits},
                    "nc": len(found.names),
                    "names": dict(enumerate(found.names)),
                },
                allow_unicode=True,
                sort_keys=False,
            )
            comment = f"# Read by detgraft from the {found.form} of {found.source.absolute().as_posix()}\n"
            write_atomic(part / "data.yaml", comment + f"# {found.counts.text()}\n" + text)
            part.replace(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        if data.is_file():  # another process was quicker
            return data
        raise DataError(
            f"the folder for it cannot be written: {error.strerror or error}", Location(str(target))
        ) from error
    return data


def _plain(form: str) -> str:
    return form.lower().replace(" ", "-")


def _identity(found: BoxedSet) -> str:
    """A name for the content: boxes, names, and the pictures with their sizes and times."""
    digest = hashlib.sha256(json.dumps([found.form, found.names]).encode())
    for split, pictures in found.splits.items():
        for picture in pictures:
            state = picture.file.stat()
            digest.update(repr((split, str(picture.file), picture.boxes, state.st_size, state.st_mtime_ns)).encode())
    return digest.hexdigest()[:12]


def _write_split(folder: Path, split: str, pictures: Sequence[BoxedPicture]) -> None:
    images, labels = folder / "images" / split, folder / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    taken: set[str] = set()
    for picture in pictures:
        stem, ending = picture.file.stem, picture.file.suffix
        name, number = stem, 1
        while name.lower() in taken:  # the same name in two folders, or with two endings
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.lower())
        _link(picture.file, images / f"{name}{ending}")
        rows = [f"{c} {x + w / 2:.6f} {y + h / 2:.6f} {w:.6f} {h:.6f}" for c, x, y, w, h in picture.boxes]
        (labels / f"{name}.txt").write_text("".join(f"{row}\n" for row in rows), "utf-8")


def _link(source: Path, target: Path) -> None:
    """Link a picture under another name; a copy where the system has no links.

    Ultralytics repairs a JPEG that is broken off by writing over it, so such a picture is copied, too.
    """
    if not _is_broken_off(source):
        try:
            os.link(source.resolve(), target)
            return
        except OSError:  # another disk, or a file system without links
            pass
    shutil.copyfile(source, target)


def _is_broken_off(path: Path) -> bool:
    if path.suffix.lower() not in _JPEG:
        return False
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - 2, 0))
        return file.read() != b"\xff\xd9"
