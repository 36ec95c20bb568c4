"""COCO JSON as ``data=``: annotation files with their picture folders, read as they are.

Layouts: ``annotations/instances_train2017.json`` beside ``train2017/`` (or ``images/train2017/``), and Roboflow's
``train/_annotations.coco.json`` beside the pictures. A region with ``iscrowd`` is no label, as in COCO's evaluation.

Source of the format: https://cocodataset.org/#format-data (boxes are left, top, width and height in pixels).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detgraft.datasets.boxes import BoxedPicture, BoxedSet, Counts, share_of
from detgraft.datasets.text import read_text
from detgraft.errors import DataError, Location, nearest

FORM = "COCO JSON"
_SPLIT = re.compile(r"(?:^|[^a-z])(train|valid|validation|val|test)(?![a-z])", re.I)
_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def coco_files(folder: Path) -> dict[str, Path]:
    """Find the annotation file of every split of a folder; empty where it is not laid out so.

    Raises:
        DataError: Two files for one split; names both.
    """
    places = [folder / "annotations", folder / "Annotations", folder]
    candidates = [path for place in places if place.is_dir() for path in sorted(place.glob("*.json"))]
    candidates += sorted(folder.glob("*/_annotations.coco.json"))
    found: dict[str, Path] = {}
    for path in dict.fromkeys(path.resolve() for path in candidates):
        if re.match(r"(captions|person_keypoints|stuff|panoptic|image_info)_", path.name):
            continue  # COCO's own files for other tasks lie beside the boxes
        split = _split_of(path)
        if split is None:
            continue
        if split in found:
            raise DataError(
                f"two annotation files for the {split} split: {found[split].name} and {path.name}; give the folder one "
                "of each",
                Location(str(folder)),
            )
        found[split] = path
    return found if "train" in found and _is_coco(found["train"]) else {}


def _split_of(path: Path) -> str | None:
    text = path.parent.name if path.name == "_annotations.coco.json" else path.stem
    match = _SPLIT.search(text)
    return _NAMES[match.group(1).lower()] if match else None


def _is_coco(path: Path) -> bool:
    """Say whether a JSON file is meant as COCO's: by its place and name, or by the keys at its beginning."""
    if path.parent.name.lower() == "annotations" or path.name.startswith(("_annotations.coco", "instances_")):
        return True
    with path.open("rb") as file:
        text = file.read(4_000_000)
    return b'"images"' in text or b'"annotations"' in text or b'"categories"' in text


def read_coco(given: Path) -> BoxedSet:
    """Read a data set.

    Args:
        given: Its folder, or one of its annotation files, beside which those of the other splits are looked for.

    Raises:
        DataError: What is wrong, with the file and the entry.
    """
    folder = given
    if given.is_file():
        folder = given.parent
        if folder.name.lower() == "annotations" or given.name == "_annotations.coco.json":
            folder = folder.parent
    files = coco_files(folder)
    if given.is_file() and given.resolve() not in files.values():
        raise DataError(
            "the split is told by the file's name: call the files instances_train.json and instances_val.json, in a "
            "folder 'annotations' beside the picture folders 'train' and 'val'",
            Location(str(given)),
        )
    if "val" not in files:
        there = ", ".join(f"{split}: {path.name}" for split, path in files.items()) or "none"
        raise DataError(
            f"there is no annotation file for the val split, such as annotations/instances_val.json (found {there})",
            Location(str(given)),
        )
    contents = {split: _read(path) for split, path in files.items()}
    names, indices = _categories(files, contents)
    counts = Counts()
    splits = {split: _split(split, files[split], folder, contents[split], indices, counts) for split in files}
    return BoxedSet(given, FORM, names, splits, counts, tuple(files.values()))


def _read(path: Path) -> dict[str, Any]:
    where = Location(str(path))
    try:
        content = json.loads(read_text(path)[0])
    except ValueError as error:
        line = getattr(error, "lineno", None)
        raise DataError(f"is no JSON: {getattr(error, 'msg', error)}", Location(str(path), line)) from error
    except RecursionError as error:
        raise DataError("is nested too deeply", where) from error
    if not isinstance(content, dict):
        raise DataError(
            f"expected a mapping with images, annotations and categories, found a {type(content).__name__}", where
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DataError(f"the list '{key}' is missing.{nearest(key, map(str, content))}", where)
    if not content["categories"]:
        raise DataError(
            'the list \'categories\' is empty: write the classes there, such as {"id": 1, "name": "cat"}',
            where,
        )
    return content


def _categories(
    files: Mapping[str, Path], contents: Mapping[str, dict[str, Any]]
) -> tuple[tuple[str, ...], dict[int, int]]:
    """Class names in the order of their numbers, and the index of each number; all splits must agree."""
    first: dict[int, str] = {}
    for split, content in contents.items():
        own: dict[int, str] = {}
        for place, entry in enumerate(content["categories"]):
            where = Location(f"{files[split]}, categories[{place}]")
            if not isinstance(entry, dict) or not _is_id(entry.get("id")) or not isinstance(entry.get("name"), str):
                raise DataError(f"expected an id and a name, found {entry!r:.80}", where)
            if entry["id"] in own:
                raise DataError(f"the id {entry['id']} is given twice", where)
            own[entry["id"]] = entry["name"]
        first = first or own
        if own != first:
            raise DataError(
                f"has other classes than {next(iter(files.values())).name}: {list(own.values())!r:.120} against "
                f"{list(first.values())!r:.120}",
                Location(str(files[split])),
            )
    order = sorted(first)
    return tuple(first[key] for key in order), {key: index for index, key in enumerate(order)}


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _split(
    split: str, file: Path, folder: Path, content: dict[str, Any], indices: Mapping[int, int], counts: Counts
) -> list[BoxedPicture]:
    sizes: dict[int, tuple[int, int]] = {}
    paths: dict[int, Path] = {}
    homes = _homes(split, file, folder)
    for place, entry in enumerate(content["images"]):
        where = Location(f"{file}, images[{place}]")
        if not isinstance(entry, dict) or not _is_id(entry.get("id")) or not isinstance(entry.get("file_name"), str):
            raise DataError(f"expected an id and a file_name, found {entry!r:.80}", where)
        size: list[Any] = [entry.get("width"), entry.get("height")]
        if not all(_is_id(value) and value > 0 for value in size):
            raise DataError(f"expected width and height in pixels, found {size!r:.60}", where)
        if entry["id"] in sizes:
            raise DataError(f"the id {entry['id']} is given twice", where)
        sizes[entry["id"]] = (int(entry["width"]), int(entry["height"]))
        paths[entry["id"]] = _picture(entry["file_name"], homes, where)
    boxes: dict[int, list[tuple[int, float, float, float, float]]] = {key: [] for key in sizes}
    for place, entry in enumerate(content["annotations"]):
        where = Location(f"{file}, annotations[{place}]")
        if not isinstance(entry, dict):
            raise DataError(f"expected an annotation, found {entry!r:.80}", where)
        if entry.get("iscrowd"):
            counts.crowd += 1
            continue
        owner: Any = entry.get("image_id")
        category: Any = entry.get("category_id")
        box: Any = entry.get("bbox")
        if not _is_id(owner) or owner not in sizes:
            raise DataError(f"the image_id {owner!r:.40} is no image's id", where)
        if not _is_id(category) or category not in indices:
            raise DataError(f"the category_id {category!r:.40} is no category's id", where)
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
            raise DataError(f"expected a bbox of left, top, width and height, found {box!r:.60}", where)
        if box[2] < 0 or box[3] < 0:
            raise DataError(f"the bbox {box!r:.60} has a negative size; it is left, top, width and height", where)
        share = share_of((box[0], box[1], box[0] + box[2], box[1] + box[3]), sizes[owner], counts)
        if share is not None:
            boxes[owner].append((indices[category], *share))
    counts.pictures[split] = len(paths)
    counts.boxes[split] = sum(map(len, boxes.values()))
    return [BoxedPicture(paths[key], tuple(boxes[key])) for key in paths]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _homes(split: str, file: Path, folder: Path) -> list[Path]:
    """Folders in which the pictures of a split may lie."""
    match = re.search(r"(train|val|valid|validation|test)\w*$", file.stem, re.I)
    words = [match.group(0)] if match else []
    words += [split, *(name for name, meant in _NAMES.items() if meant == split)]
    homes = [file.parent] if file.name == "_annotations.coco.json" else []
    for word in dict.fromkeys(words):
        homes += [folder / word, folder / "images" / word, folder / word / "images"]
    homes += [folder / "images", folder]
    return [home for home in dict.fromkeys(homes) if home.is_dir()]


def _picture(name: str, homes: list[Path], where: Location) -> Path:
    plain = name.replace("\\", "/")
    for home in homes:
        for candidate in (home / plain, home / Path(plain).name):
            if candidate.is_file():
                return candidate
    shown = ", ".join(map(str, homes[:4]))
    raise DataError(f"there is no picture '{name}' (looked in {shown})", where)
