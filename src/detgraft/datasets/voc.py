"""VOC XML as ``data=``: one file of objects for every picture, read as it is.

Layouts: ``Annotations/``, ``JPEGImages/`` and ``ImageSets/Main/train.txt``, ``val.txt``; or ``train/`` and ``val/`` (or
``valid/``) with pictures and XML files side by side. An object that is marked ``difficult`` is no label, as in VOC's
evaluation. Pixels count from 1 and a box includes its last ones, so its left edge is xmin - 1 and its right edge xmax.

Source of the format: M. Everingham et al., The PASCAL Visual Object Classes Challenge, development kit (2012).
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from PIL import Image

from detgraft.datasets.boxes import BoxedPicture, BoxedSet, Counts, share_of
from detgraft.datasets.labels import IMAGE_SUFFIXES, read_classes
from detgraft.datasets.text import read_text
from detgraft.errors import DataError, Location, nearest

FORM = "VOC XML"
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_SPELLINGS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


def is_voc(folder: Path) -> bool:
    """Say whether a folder is laid out so."""
    if any((folder / "Annotations").glob("*.xml")):
        return True
    return any((folder / "train").glob("*.xml")) or any((folder / "train" / "Annotations").glob("*.xml"))


def read_voc(folder: Path) -> BoxedSet:
    """Read a data set.

    Args:
        folder: Its folder.

    Raises:
        DataError: What is wrong, with the file and the object.
    """
    files = _standard(folder) if (folder / "Annotations").is_dir() else _beside(folder)
    counts = Counts()
    objects = {split: [_objects(xml, counts) for xml, _ in pairs] for split, pairs in files.items()}
    names = _class_names(folder, [name for found in objects.values() for one in found for name, _ in one])
    index = {name: number for number, name in enumerate(names)}
    splits: dict[str, list[BoxedPicture]] = {}
    for split, pairs in files.items():
        splits[split] = []
        for (xml, picture), found in zip(pairs, objects[split], strict=True):
            size = _size_of(picture)
            boxes = []
            for name, box in found:
                if name not in index:
                    raise DataError(
                        f"the class '{name}' is not in classes.txt.{nearest(name, names)}", Location(str(xml))
                    )
                share = share_of((box[0] - 1, box[1] - 1, box[2], box[3]), size, counts)
                if share is not None:
                    boxes.append((index[name], *share))
            splits[split].append(BoxedPicture(picture, tuple(boxes)))
        counts.pictures[split] = len(splits[split])
        counts.boxes[split] = sum(len(picture.boxes) for picture in splits[split])
    return BoxedSet(folder, FORM, names, splits, counts, tuple(xml for pairs in files.values() for xml, _ in pairs))


def _standard(folder: Path) -> dict[str, list[tuple[Path, Path]]]:
    """XML and picture of every name that the lists of ImageSets/Main give."""
    lists = folder / "ImageSets" / "Main"
    found: dict[str, list[tuple[Path, Path]]] = {}
    pictures = _by_stem(next((p for p in (folder / "JPEGImages", folder / "images") if p.is_dir()), folder))
    for split, spellings in _SPELLINGS.items():
        file = next((lists / f"{name}.txt" for name in spellings if (lists / f"{name}.txt").is_file()), None)
        if file is None:
            continue
        pairs = []
        for number, line in enumerate(read_text(file)[0].splitlines(), start=1):
            if not line.strip():
                continue
            name, where = Path(line.split()[0]).stem, Location(str(file), number)
            xml = folder / "Annotations" / f"{name}.xml"
            if not xml.is_file():
                raise DataError(f"there is no Annotations/{name}.xml", where)
            if name not in pictures:
                raise DataError(f"there is no picture '{name}' in JPEGImages", where)
            pairs.append((xml, pictures[name]))
        found[split] = pairs
    if "train" not in found or "val" not in found:
        missing = "train" if "train" not in found else "val"
        raise DataError(
            f"the splits are not told: write the names of the {missing} pictures into ImageSets/Main/{missing}.txt, "
            "one per line, without ending",
            Location(str(folder)),
        )
    return found


def _beside(folder: Path) -> dict[str, list[tuple[Path, Path]]]:
    """XML files and pictures of folders that are called after the splits."""
    found: dict[str, list[tuple[Path, Path]]] = {}
    for split, spellings in _SPELLINGS.items():
        home = next((folder / name for name in spellings if (folder / name).is_dir()), None)
        if home is None:
            continue
        annotations = home / "Annotations" if (home / "Annotations").is_dir() else home
        pictures = _by_stem(next((p for p in (home / "JPEGImages", home / "images") if p.is_dir()), home))
        pairs = []
        for xml in sorted(annotations.glob("*.xml")):
            if xml.stem not in pictures:
                raise DataError("there is no picture of the same name beside it", Location(str(xml)))
            pairs.append((xml, pictures[xml.stem]))
        found[split] = pairs
    if "val" not in found:
        raise DataError("there is no folder 'val' (or 'valid') with pictures and XML files", Location(str(folder)))
    return found


def _by_stem(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES}


def _objects(xml: Path, counts: Counts) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Class name and box of every object that counts."""
    text = read_text(xml)[0]
    where = Location(str(xml))
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError("defines entities, which no annotation needs; it is not read", where)
    try:
        root = ElementTree.fromstring(text.encode())
    except ElementTree.ParseError as error:
        raise DataError(f"is no XML: {error.msg}", Location(str(xml), error.position[0])) from error
    found = []
    for number, entry in enumerate(root.iter("object"), start=1):
        place = Location(f"{xml}, object {number}")
        name = (entry.findtext("name") or "").strip()
        if not name:
            raise DataError("has no name", place)
        if (entry.findtext("difficult") or "0").strip() == "1":
            counts.difficult += 1
            continue
        box = entry.find("bndbox")
        if box is None:
            raise DataError("has no bndbox", place)
        values = []
        for side in _SIDES:
            written = (box.findtext(side) or "").strip()
            try:
                values.append(float(written))
            except ValueError as error:
                raise DataError(f"'{side}' is a number of pixels, found {written!r:.40}", place) from error
        if not all(abs(value) < 1e7 for value in values):
            raise DataError(f"the bndbox {values} is no box in pixels", place)
        if values[2] < values[0] or values[3] < values[1]:
            raise DataError(f"the bndbox {values} ends before it begins", place)
        found.append((name, (values[0], values[1], values[2], values[3])))
    return found


def _class_names(folder: Path, used: list[str]) -> tuple[str, ...]:
    """The names of a classes.txt, in its order; without one those that are used, in the order of the alphabet."""
    for file in (folder / "classes.txt", folder / "labels.txt"):
        if file.is_file():
            return tuple(read_classes(file))
    if not used:
        raise DataError(
            "no object has a class; write the class names into classes.txt, one per line", Location(str(folder))
        )
    return tuple(sorted(set(used)))


def _size_of(picture: Path) -> tuple[int, int]:
    """Width and height of a picture; what an XML says of it is often that of another version."""
    try:
        with Image.open(picture) as opened:
            turned = opened.getexif().get(274) in (5, 6, 7, 8)
            return (opened.height, opened.width) if turned else (opened.width, opened.height)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError("is no picture that can be read", Location(str(picture))) from error
