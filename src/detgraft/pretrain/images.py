"""Unlabelled images for pretraining: finding and reading them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image, ImageOps
from torch import Tensor

from detgraft.errors import DataError, Location

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".mpo", ".png", ".tif", ".tiff", ".webp"})
_YAML_SUFFIXES = frozenset({".yaml", ".yml"})


@dataclass(frozen=True)
class ImageList:
    """The images of a run.

    Attributes:
        source: What the user gave.
        paths: All image files, sorted.
        digest: Fingerprint of the file names (relative to the source), to notice a changed set on resume.
    """

    source: str
    paths: tuple[Path, ...]
    digest: str


def find_images(data: str | Path) -> ImageList:
    """List the images of a folder (with its subfolders) or of the ``train`` part of a data YAML; labels are ignored.

    Raises:
        DataError: If nothing is there, if the YAML cannot be used, or if there is no image.
    """
    source = Path(data)
    if source.is_dir():
        paths = _in_folder(source)
        place = source
    elif source.suffix.lower() in _YAML_SUFFIXES and source.is_file():
        paths, place = _in_yaml(source)
    elif source.exists():
        raise DataError(f"data must be a folder of images or a data YAML, found the file '{source}'")
    else:
        raise DataError(f"data='{data}' does not exist; expected a folder of images or a data YAML")
    if not paths:
        kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise DataError(f"no image found in '{place}' or below it; looked for {kinds}")
    names = "\n".join(_relative(path, source) for path in paths)
    return ImageList(str(data), tuple(paths), hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest())


def _relative(path: Path, source: Path) -> str:
    base = source if source.is_dir() else source.parent
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name


def _in_folder(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _in_yaml(file: Path) -> tuple[list[Path], Path]:
    """Return the images of the YAML's ``train`` entry, and the place to name when there are none."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"cannot be read: {error}", Location(str(file))) from error
    if not isinstance(content, dict):
        raise DataError("must be a mapping with an entry 'train'", Location(str(file)))
    entries = content.get("train")
    if isinstance(entries, str):
        entries = [entries]
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, str) for entry in entries):
        raise DataError(f"'train' must be a path or a list of paths, found {entries!r}", Location(str(file)))
    root = _root_of(content.get("path"), file)
    paths: list[Path] = []
    for entry in entries:
        place = root / entry.replace("\\", "/")
        if place.is_dir():
            paths += _in_folder(place)
        elif place.suffix.lower() == ".txt" and place.is_file():
            paths += _in_text(place)
        elif place.is_file() and place.suffix.lower() in SUFFIXES:
            paths.append(place)
        else:
            raise DataError(f"the 'train' entry '{entry}' does not exist (looked at '{place}')", Location(str(file)))
    return sorted(set(paths)), root / entries[0].replace("\\", "/")


def _root_of(path: object, file: Path) -> Path:
    """Return what the entries are relative to: ``path`` from the current folder or the file's, else the file's."""
    if path is None or path == "":
        return file.parent
    if not isinstance(path, str):
        raise DataError(f"'path' must be text, found {path!r}", Location(str(file)))
    root = Path(path.replace("\\", "/"))
    return root if root.is_absolute() or root.is_dir() else file.parent / root


def _in_text(listing: Path) -> list[Path]:
    lines = [line.strip().replace("\\", "/") for line in listing.read_text(encoding="utf-8").splitlines()]
    paths = [Path(line) for line in lines if line]
    return [path if path.is_absolute() else listing.parent / path for path in paths]


def read_image(path: Path) -> Image.Image:
    """Return the decoded image, upright and in RGB; whatever the decoder raises passes through."""
    with Image.open(path) as file:
        return ImageOps.exif_transpose(file).convert("RGB")


def why_broken(path: Path) -> str | None:
    """Return why an image cannot be used, or None when it can."""
    try:
        read_image(path)
    except Exception as error:  # decoders raise many kinds: OSError, SyntaxError, struct.error, zlib.error ...
        return f"{type(error).__name__}: {error}"
    return None


def derive_seed(*parts: int | str) -> int:
    """Return a seed that depends on all parts and on nothing else."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")


def centre_box(size: tuple[int, int], ratio: float) -> tuple[int, int, int, int]:
    """Return the largest box of width/height ``ratio`` in the middle of an image of ``size`` (width, height)."""
    width, height = size
    w = min(width, max(1, round(height * ratio)))
    h = min(height, max(1, round(width / ratio)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def to_tensor(image: Image.Image) -> Tensor:
    """Return an RGB image as uint8 (3, H, W)."""
    pixels: Any = np.array(image, dtype=np.uint8)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
