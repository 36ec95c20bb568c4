"""From what a user gives as ``data=`` to a data YAML that Ultralytics reads as it was meant.

``data=`` may be a data YAML, or a folder laid out as ``train/images`` + ``train/labels`` (or ``images/train`` +
``labels/train``) from which the YAML is derived. Nothing is written beside the user's data.
"""

from __future__ import annotations

import copy
import functools
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from detgraft.base.files import write_atomic
from detgraft.base.located import Kind, parse_located
from detgraft.datasets.boxes import BoxedSet, write_set
from detgraft.datasets.coco import coco_files, read_coco
from detgraft.datasets.labels import check_labels, is_labelled, list_images, read_classes
from detgraft.datasets.text import find_existing, read_text
from detgraft.datasets.voc import is_voc, read_voc
from detgraft.errors import DataError, Location, nearest

_SPELLINGS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_SPLIT_KEYS = ("train", "val", "validation", "test", "minival")
_PATH_KEYS = ("path", *_SPLIT_KEYS)
_NEEDED = ("train", "val")
_PARTS = ("annotations", "jpegimages", "imagesets", "images", "labels")
_KIND = Kind(
    "data YAML", "a mapping (key: value) with train, val and names", "not readable as YAML", most_values=200_000
)


def resolve_data(
    data: str | Path,
    out_dir: Path | None = None,
    *,
    needed: Collection[str] = _NEEDED,
    known: Iterable[str] = (),
    download: bool = False,
    tell: Callable[[str], object] = lambda _text: None,
) -> Path:
    """Turn ``data=`` into the path of a data YAML, checking what it names.

    A folder's own data YAML gives the class names when there is no ``classes.txt``, and is used itself when the folder
    is not laid out in splits. Without either, classes are called ``class0``, ``class1``...

    Args:
        data: A data YAML or a folder.
        out_dir: Where ``data.yaml`` is written for a folder; a new temporary folder when None.
        needed: Splits that a YAML must have on disk.
        known: Names to propose besides the files that exist (the YAMLs that Ultralytics ships).
        download: A YAML may name splits that its ``download:`` entry brings.
        tell: Told what a COCO or VOC set holds.

    Returns:
        Absolute path of the YAML: the given one, or the derived ``<out_dir>/data.yaml``.

    Raises:
        DataError: Missing file, missing or empty split, malformed label or class list; names file and line.
    """
    path = find_existing(data, known)
    boxed = _boxed(path)
    if boxed is not None:
        yaml_file = write_set(boxed, out_dir or Path(tempfile.mkdtemp(prefix="detgraft-data-")))
        tell(f"{data}: {boxed.form}, {len(boxed.names)} classes; {boxed.counts.text()}")
        return yaml_file.absolute()
    if path.is_file():
        if path.suffix.lower() not in {".yaml", ".yml"}:
            raise DataError(
                "expected a data YAML (.yaml, .yml), a COCO JSON, or a folder; for VOC XML give the folder",
                Location(str(data)),
            )
        load_data_yaml(path, needed=needed, download=download)
        return path.absolute()
    own = _own_yaml(path)
    splits = {key: images for key in _SPELLINGS if (images := _split_folder(path, key)) is not None}
    if own is not None and not {"train", "val"} <= splits.keys():
        load_data_yaml(own, needed=needed, download=download)
        return own.absolute()
    if not splits and own is None and path.name.lower() in _PARTS and _is_set(path.parent):
        raise DataError(f"this is a part of a data set; write data={Path(data).parent}", Location(str(data)))
    text = _derive(path, splits, own, tell)
    target = (out_dir or Path(tempfile.mkdtemp(prefix="detgraft-data-"))) / "data.yaml"
    write_atomic(target, text)
    return target.absolute()


def _is_set(folder: Path) -> bool:
    return is_voc(folder) or bool(coco_files(folder)) or _split_folder(folder, "train") is not None


def _boxed(path: Path) -> BoxedSet | None:
    """Read a COCO or VOC set; None for everything else. A folder's own YAML and label files come first."""
    if path.is_file():
        return read_coco(path) if path.suffix.lower() == ".json" else None
    if _split_folder(path, "train") is not None and not coco_files(path):
        return None
    if _own_yaml(path) is not None:
        return None
    if coco_files(path):
        return read_coco(path)
    return read_voc(path) if is_voc(path) else None


def load_data_yaml(
    path: Path,
    *,
    needed: Collection[str] = _NEEDED,
    datasets_dir: Path | None = None,
    download: bool = False,
) -> dict[str, Any]:
    """Read and check a data YAML, with the meaning that Ultralytics gives to it.

    A relative ``path:`` counts from the current folder if it exists there, else from Ultralytics' data folder; without
    ``path`` the file's own folder is the root. Backslashes in paths are separators on every system, also in double
    quotes, where YAML would take them for escapes.

    Args:
        path: The YAML; UTF-8 with or without byte-order mark, UTF-16 or GBK.
        needed: Splits that must exist on disk.
        datasets_dir: Ultralytics' data folder; when None, a root that may lie in it is left relative and unchecked.
        download: Splits may be missing where the YAML says how to ``download`` them.

    Returns:
        All keys of the file; ``names`` as {index: name}, ``nc``, ``path`` and the splits as absolute paths with
        forward slashes, ``validation`` as ``val``.

    Raises:
        DataError: Missing or unreadable file, no mapping, missing key, wrong type, names that do not match ``nc``, or a
            missing split folder; names file and line.
    """
    path = find_existing(path)
    data, lines = _parse(path, _repair_quotes(read_text(path)[0]))
    for key in _PATH_KEYS:
        if data.get(key):
            data[key] = _slashed(data[key], key, Location(str(path), lines[key]))
    if "val" not in data and "validation" in data:
        data["val"], lines["val"] = data.pop("validation"), lines["validation"]
    for key in _NEEDED:
        if not data.get(key):
            keys = [found for found in data if found not in _PATH_KEYS]
            raise DataError(
                f"the key '{key}:' is missing or empty.{nearest(key, keys)}", Location(str(path), lines.get(key))
            )
    data["names"] = _names(path, data, lines)
    data["nc"] = len(data["names"])
    _check_key_points(path, data, lines)
    root = _root(path, data, datasets_dir)
    if root is None:
        return data
    data["path"] = root.as_posix()
    for key in (key for key in _SPLIT_KEYS if data.get(key)):
        values = data[key] if isinstance(data[key], list) else [data[key]]
        folders = [_resolve(root, value) for value in values]
        missing = next((folder for folder in folders if not folder.exists()), None)
        if missing is not None and key in needed and not (download and data.get("download")):
            text = _missing_text(key, missing, root) + _download_text(data.get("download"))
            raise DataError(text, Location(str(path), lines[key]))
        data[key] = [folder.as_posix() for folder in folders] if isinstance(data[key], list) else folders[0].as_posix()
    return data


def check_measured(path: Path, split: str, *, datasets_dir: Path | None = None, here: bool = True) -> None:
    """Refuse a data YAML on whose splits nothing can be measured.

    Args:
        path: The data YAML.
        split: ``val``, ``test``, or ``auto`` for test where there is one; val is always measured.
        datasets_dir: As in :func:`load_data_yaml`.
        here: The pictures should be on this machine; otherwise only what the YAML says is checked.

    Raises:
        DataError: A split that is asked for is not named, not there, holds no picture, or no labelled one.
    """
    data = load_data_yaml(path, needed=(), datasets_dir=datasets_dir)
    where = Location(str(path))
    if split == "test" and not data.get("test"):
        raise DataError("names no test split ('test:'), which 'split: test' asks for; write split: val or auto", where)
    measured = ["val", "test"] if split != "val" and data.get("test") else ["val"]
    for name in measured if here and _root(path, data, datasets_dir) is not None else ():
        places = [Path(place) for place in (data[name] if isinstance(data[name], list) else [data[name]])]
        missing = next((place for place in places if not place.exists()), None)
        if missing is not None and data.get("download"):
            continue
        if missing is not None:
            raise DataError(_missing_text(name, missing, Path(data["path"])), where)
        pictures = [picture for place in places for picture in pictures_in(place)]
        if not pictures:
            raise DataError(f"there are no pictures in the {name} split", where)
        if not any(is_labelled(picture.resolve()) for picture in pictures):
            advice = "; write split: val" if name == "test" else ""
            raise DataError(
                f"none of the {len(pictures)} pictures of the {name} split has a label, so that nothing can be measured"
                f" on it{advice}",
                where,
            )


def pictures_in(place: Path) -> list[Path]:
    """Pictures of a split: those below a folder, those that a text file lists, or the one file."""
    if place.is_dir():
        return list_images(place)
    if place.suffix.lower() == ".txt":
        lines = [line.strip().replace("\\", "/") for line in read_text(place)[0].splitlines()]
        return [path if path.is_absolute() else place.parent / path for path in map(Path, filter(None, lines))]
    return [place]


def normalise_data_yaml(
    path: Path,
    out_dir: Path,
    *,
    needed: Collection[str] = _NEEDED,
    datasets_dir: Path | None = None,
    download: bool = False,
) -> Path:
    """Return a YAML that stock Ultralytics reads as meant: the given one, or a corrected copy.

    Corrected are backslash separators and encodings other than UTF-8; the ``download:`` entry, which Ultralytics
    executes, is left out unless it was asked for. ``path: .`` and other relative roots keep the
    meaning that Ultralytics gives to them.

    Args:
        path: The user's YAML; never changed.
        out_dir: Where a corrected copy goes, with absolute paths, under the file's own name.
        needed: As in :func:`load_data_yaml`.
        datasets_dir: As in :func:`load_data_yaml`.
        download: Keep the ``download:`` entry.

    Raises:
        DataError: As :func:`load_data_yaml`.
    """
    data = load_data_yaml(path, needed=needed, datasets_dir=datasets_dir, download=download)
    source = find_existing(path)
    text, encoding = read_text(source)
    repaired = _repair_quotes(text)
    plain, lines = _parse(source, repaired)
    as_written = {key: plain[key] for key in _PATH_KEYS if plain.get(key)}
    slashed = {key: _slashed(value, key, Location(str(source), lines[key])) for key, value in as_written.items()}
    drops = not download and bool(data.pop("download", None))
    if encoding == "utf-8" and repaired == text and slashed == as_written and not drops:
        return path
    target = out_dir / f"{source.stem}.yaml"
    if target.resolve() == source.resolve():
        target = out_dir / f"{source.stem}-corrected.yaml"
    write_atomic(target, _dump(data, f"Corrected copy of {source.absolute().as_posix()}, written by detgraft"))
    return target


def _dump(data: Mapping[str, Any], comment: str) -> str:
    return f"# {comment}\n" + yaml.safe_dump(dict(data), allow_unicode=True, sort_keys=False)


def _repair_quotes(text: str) -> str:
    """Write the backslashes of double-quoted paths as slashes, before YAML reads ``\\t`` and ``\\v`` as escapes."""

    def slash(match: re.Match[str]) -> str:
        return re.sub(r"\\+", "/", match.group())

    inside, lines = False, text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if key := re.match(r"""["']?(\w+)["']?\s*:""", line):
            inside = key.group(1) in _PATH_KEYS
        if inside and "\\" in line and not line.lstrip().startswith("#"):
            lines[number] = re.sub(r'"[^"\n]*"', slash, line)
    return "".join(lines)


def _parse(path: Path, text: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Parse the text of a YAML file into its mapping and the 1-based line of each top-level key."""
    values, lines = _parsed(str(path), text)
    return copy.deepcopy(values), dict(lines)


@functools.lru_cache(maxsize=8)
def _parsed(source: str, text: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Parse once what one run asks for several times; by the text itself, so a changed file is another one."""
    found = parse_located(text, source, DataError, _KIND)
    return found.values, {str(where[0]): line for where, line in found.lines.items() if len(where) == 1}


def _slashed(value: object, key: str, location: Location) -> str | list[str]:
    if isinstance(value, str):
        return value.replace("\\", "/")
    if isinstance(value, list) and key != "path" and value and all(isinstance(item, str) for item in value):
        return [item.replace("\\", "/") for item in value]
    expected = "a folder" if key == "path" else "a folder or a list of folders"
    raise DataError(f"'{key}' must be {expected}, found {value!r:.120}", location)


def _names(path: Path, data: Mapping[str, Any], lines: Mapping[str, int]) -> dict[int, str]:
    names, nc = data.get("names"), data.get("nc")
    if names is None and nc is None:
        keys = [key for key in data if key not in _PATH_KEYS]
        raise DataError(f"one of the keys 'names:' and 'nc:' is needed.{nearest('names', keys)}", Location(str(path)))
    if nc is not None and (isinstance(nc, bool) or not isinstance(nc, int) or nc < 1):
        raise DataError(
            f"'nc' must be a whole number of at least 1, found {nc!r:.80}", Location(str(path), lines["nc"])
        )
    if names is None:
        return {index: f"class_{index}" for index in range(int(data["nc"]))}
    location = Location(str(path), lines["names"])
    if not isinstance(names, list | dict) or not names:
        raise DataError(f"'names' must be a list or a mapping from index to name, found {names!r:.120}", location)
    if nc is not None and nc != len(names):
        raise DataError(f"'nc: {nc}' does not match the {len(names)} names", location)
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    by_index = {int(index): str(name) for index, name in pairs if str(index).isdigit()}
    if sorted(by_index) != list(range(len(names))):
        raise DataError(f"'names' must have the indices 0 to {len(names) - 1}, found {list(names)!r:.120}", location)
    return dict(sorted(by_index.items()))


def _check_key_points(path: Path, data: Mapping[str, Any], lines: Mapping[str, int]) -> None:
    shape = data.get("kpt_shape")
    if shape is None:
        return
    numbers = isinstance(shape, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in shape)
    if not numbers or len(shape) != 2 or not 1 <= shape[0] <= 1000 or shape[1] not in (2, 3):
        raise DataError(
            f"'kpt_shape' must be [number of key points, 2 or 3], found {shape!r:.80}",
            Location(str(path), lines["kpt_shape"]),
        )


def _root(path: Path, data: Mapping[str, Any], datasets_dir: Path | None) -> Path | None:
    """Folder that the splits are relative to; None when only Ultralytics' settings can tell."""
    if not data.get("path"):
        return path.absolute().parent
    root = Path(data["path"])
    if root.is_absolute() or root.exists():
        return root.absolute()
    return None if datasets_dir is None else (datasets_dir / root).absolute()


def _resolve(root: Path, value: str) -> Path:
    folder = (root / value).resolve()
    # Ultralytics reads Roboflow's "../train/images" beside the YAML when it is not above it.
    if not folder.exists() and value.startswith("../"):
        folder = (root / value[3:]).resolve()
    return folder


def _missing_text(key: str, missing: Path, root: Path) -> str:
    siblings = [entry.name for entry in missing.parent.iterdir()] if missing.parent.is_dir() else []
    hint = nearest(missing.name, siblings)
    return f"'{key}:' leads to {str(missing)!r}, which does not exist (root: {str(root)!r}).{hint}"


def _download_text(entry: object) -> str:
    """What a YAML's ``download:`` would do, for the end of an error; empty where it has none."""
    if not entry:
        return ""
    text = str(entry)
    what = "fetch" if text.lower().startswith("http") else "run a shell command" if text.startswith("bash ") else "run"
    first = text.strip().splitlines()[0]
    return f" Its 'download:' would {what} {first!r:.60}; give download=True to let it."


def _own_yaml(folder: Path) -> Path | None:
    """The data YAML that a folder holds, told from model YAMLs by its keys; ``data.yaml`` when there are several."""
    found = []
    for path in sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in {".yaml", ".yml"}):
        try:
            data, _ = _parse(path, _repair_quotes(read_text(path)[0]))
        except DataError:
            continue
        if "train" in data and ("names" in data or "nc" in data):
            found.append(path)
    named = [path for path in found if path.stem == "data"]
    if len(found) > 1 and not named:
        raise DataError(
            f"several data YAMLs ({', '.join(path.name for path in found)}): give the one that is meant",
            Location(str(folder)),
        )
    return next(iter(named or found), None)


def _split_folder(folder: Path, split: str) -> Path | None:
    """The pictures of a split in either layout."""
    for name in _SPELLINGS[split]:
        for images in (folder / name / "images", folder / "images" / name):
            if images.is_dir():
                return images
    return None


def _derive(
    folder: Path, splits: Mapping[str, Path], own: Path | None, tell: Callable[[str], object] = lambda _text: None
) -> str:
    """Text of the data YAML for a folder laid out in splits, after checking all its labels."""
    if "train" not in splits:
        inner = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and _split_folder(entry, "train")]
        hint = f" The folder {str(inner[0])!r} has them: give that one." if inner else ""
        raise DataError(
            f"no training pictures: expected 'train/images' and 'train/labels' (or 'images/train' and 'labels/train'), "
            f"found {sorted(entry.name for entry in folder.iterdir())[:8]}.{hint}",
            Location(str(folder)),
        )
    if "val" not in splits:
        raise DataError(
            "no validation pictures: expected 'val/images' and 'val/labels' (or 'images/val' and 'labels/val'). "
            "To make them, create these folders and move about every fifth picture of the training split there, each "
            "with its label file of the same name.",
            Location(str(folder)),
        )
    names, source, extra = _class_names(folder, splits, own)
    highest = -1
    for split, images in splits.items():
        pictures = list_images(images.resolve())
        if not pictures:
            raise DataError(f"no pictures in the {split} split", Location(str(images)))
        found, top = check_labels(pictures, names, source, extra.get("kpt_shape"))
        if not found and split != "test":
            raise DataError(
                f"no labels for the {split} split: expected a label file (.txt) of the same name for each of its "
                f"{len(pictures)} pictures, in 'labels' beside 'images'",
                Location(str(images)),
            )
        highest = max(highest, top)
    if highest < 0:
        raise DataError("no labels: every label file is empty", Location(str(folder)))
    if not names:
        names = [f"class{index}" for index in range(highest + 1)]
        tell(
            f"{folder}: the classes are called {names[0]} to {names[-1]}; write their names into "
            f"{folder / 'classes.txt'}, one per line in the order of their numbers"
        )
    data = {split: images.resolve().as_posix() for split, images in splits.items()}
    comment = f"Derived by detgraft from the folder {folder.resolve().as_posix()}"
    return _dump({**data, "nc": len(names), "names": dict(enumerate(names)), **extra}, comment)


def _class_names(
    folder: Path, splits: Mapping[str, Path], own: Path | None
) -> tuple[list[str] | None, str, dict[str, Any]]:
    """Class names, the name of their source, and further keys (key points and the like) of the folder's own YAML."""
    extra: dict[str, Any] = {}
    own_names: list[str] | None = None
    if own is not None:
        data, lines = _parse(own, _repair_quotes(read_text(own)[0]))
        own_names = list(_names(own, data, lines).values())
        _check_key_points(own, data, lines)
        extra = {key: value for key, value in data.items() if key not in (*_PATH_KEYS, "nc", "names", "download")}
    homes = [folder, folder / "labels"]
    for images in splits.values():
        # train/images -> train/labels, train; images/train -> labels/train, images
        inner = images.parent / "labels" if images.name == "images" else folder / "labels" / images.name
        homes += [inner, images.parent]
    found: dict[Path, list[str]] = {}
    for home in dict.fromkeys(homes):
        if (home / "classes.txt").is_file():
            found[home / "classes.txt"] = read_classes(home / "classes.txt")
    if not found:
        return own_names, own.name if own is not None else "", extra
    (first, names), *others = found.items()
    for other, differing in others:
        if differing != names:
            raise DataError(
                f"lists other classes than {str(first)!r}: {differing} against {names}", Location(str(other))
            )
    return names, str(first), extra
