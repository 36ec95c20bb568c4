"""Unlabelled images for pretraining: finding and reading them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from detgraft.datasets.folder import load_data_yaml, pictures_in
from detgraft.datasets.labels import IMAGE_SUFFIXES
from detgraft.datasets.pictures import read_picture
from detgraft.datasets.text import find_existing
from detgraft.errors import DataError, Location

_YAML_SUFFIXES = frozenset({".yaml", ".yml"})
_HELD_OUT = frozenset({"val", "valid", "validation", "test"})


@dataclass(frozen=True)
class ImageList:
    """The images of a run.

    Attributes:
        source: What the user gave.
        paths: All image files, sorted.
        digest: Fingerprint of the file names (relative to the source), to notice a changed set on resume.
        held_out: Names of subfolders in use that usually hold validation or test images.
        names: Name of each file relative to the source, where it lies below it.
    """

    source: str
    paths: tuple[Path, ...]
    digest: str
    held_out: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def find_images(data: str | Path) -> ImageList:
    """List the images of a folder (with its subfolders) or of the ``train`` part of a data YAML; labels are ignored.

    Raises:
        DataError: If nothing is there, if the YAML cannot be used, or if there is no image.
    """
    source = find_existing(data)
    if source.is_dir():
        places = [source]
    elif source.suffix.lower() in _YAML_SUFFIXES:
        places = _train_entries(source)
    else:
        raise DataError(f"data must be a folder of images or a data YAML, found the file '{source}'")
    paths = sorted({path for place in places for path in pictures_in(place)})
    if not paths:
        kinds = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        shown = ", ".join(f"'{place}'" for place in places)
        raise DataError(f"no image found in {shown} or below; looked for {kinds}", Location(str(data)))
    base = source if source.is_dir() else source.parent
    names = [path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name for path in paths]
    digest = hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()
    held_out = {part for name in names for part in Path(name).parts[:-1] if part.lower() in _HELD_OUT}
    held = tuple(sorted(held_out)) if source.is_dir() else ()
    return ImageList(str(data), tuple(paths), digest, held, tuple(names))


def _train_entries(file: Path) -> list[Path]:
    content = load_data_yaml(file, needed=("train",))
    entries = content["train"] if isinstance(content["train"], list) else [content["train"]]
    # An absolute root is what load_data_yaml gives unless the YAML counts from Ultralytics' own data folder.
    places = [Path(entry) for entry in entries]
    missing = next((place for place in places if not place.exists()), None)
    if missing is not None:
        raise DataError(f"'train:' leads to '{missing}', which does not exist here", Location(str(file)))
    return places


def read_image(path: Path) -> Image.Image:
    """Return the decoded image, upright and in RGB, as a detector's training reads it; errors pass through."""
    return Image.fromarray(read_picture(path))


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
