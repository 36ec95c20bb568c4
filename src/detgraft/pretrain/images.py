"""Unlabelled images for pretraining: finding them, reading them, and one random view with its mask per draw.

Every random choice for one view comes from a generator seeded with (run seed, epoch, place in the epoch). A view thus
depends neither on the number of worker processes nor on the number of GPUs, and a resumed run sees exactly the views
that the uninterrupted one would have seen.

The view follows "ConvNeXt V2" (facebookresearch/ConvNeXt-V2, main_pretrain.py): a random crop of 20 to 100 % of the
area, bicubic, mirrored half of the time. Written from the stated settings.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from detgraft.errors import DataError, Location
from detgraft.pretrain.masking import PATCH, random_mask

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".mpo", ".png", ".tif", ".tiff", ".webp"})
_YAML_SUFFIXES = frozenset({".yaml", ".yml"})
_SCALE = (0.2, 1.0)
_RATIO = (3.0 / 4.0, 4.0 / 3.0)
_CROP_TRIES = 10

Draw = tuple[int, int, int]  # epoch, place in the epoch, image number


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


@dataclass
class View:
    """One draw: uint8 picture (3, S, S), bool mask (L), and the broken files met on the way with the reasons."""

    picture: Tensor
    mask: Tensor
    broken: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Batch:
    """A batch of views: uint8 pictures (B, 3, S, S), bool masks (B, L), broken files."""

    pictures: Tensor
    masks: Tensor
    broken: list[tuple[str, str]]

    def pin_memory(self) -> Batch:
        """Move to page-locked memory; called by PyTorch's data loader."""
        return Batch(self.pictures.pin_memory(), self.masks.pin_memory(), self.broken)


def collate(views: Sequence[View]) -> Batch:
    """Join views to a batch."""
    return Batch(
        torch.stack([view.picture for view in views]),
        torch.stack([view.mask for view in views]),
        [entry for view in views for entry in view.broken],
    )


class Views(Dataset[View]):
    """Random views of the images, addressed by (epoch, place in the epoch, image number).

    A broken image is replaced by the next readable one, and reported in the view.
    """

    def __init__(self, paths: Sequence[Path], imgsz: int, mask_ratio: float, seed: int) -> None:
        self.paths = paths
        self.imgsz = imgsz
        self.mask_ratio = mask_ratio
        self.seed = seed
        self._broken: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, draw: Draw) -> View:
        epoch, place, number = draw
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "view", epoch, place))
        image, broken = self._readable(number)
        picture = _random_view(image, self.imgsz, generator)
        patches = (self.imgsz // PATCH) ** 2
        return View(picture, random_mask(1, patches, self.mask_ratio, generator)[0], broken)

    def _readable(self, number: int) -> tuple[Image.Image, list[tuple[str, str]]]:
        broken: list[tuple[str, str]] = []
        for offset in range(len(self.paths)):
            index = (number + offset) % len(self.paths)
            path = self.paths[index]
            if index not in self._broken:
                try:
                    return read_image(path), broken
                except Exception as error:  # decoders raise many kinds: OSError, SyntaxError, struct.error ...
                    self._broken[index] = f"{type(error).__name__}: {error}"
            broken.append((str(path), self._broken[index]))
        raise DataError(f"none of the {len(self.paths)} images can be read; the first one: {broken[0]}")


def _random_view(image: Image.Image, size: int, generator: torch.Generator) -> Tensor:
    box = _random_box(image.size, generator)
    view = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if torch.rand((), generator=generator) < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return to_tensor(view)


def _random_box(size: tuple[int, int], generator: torch.Generator) -> tuple[int, int, int, int]:
    width, height = size
    for _ in range(_CROP_TRIES):
        share, shape, x, y = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        area = width * height * (_SCALE[0] + share * (_SCALE[1] - _SCALE[0]))
        ratio = math.exp(math.log(_RATIO[0]) + shape * (math.log(_RATIO[1]) - math.log(_RATIO[0])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
            return left, top, left + w, top + h
    return centre_box(size, min(max(width / height, _RATIO[0]), _RATIO[1]))


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


class EpochBatches(Sampler[list[Draw]]):
    """The batches of one epoch for one process, from any place on.

    All processes share one order of the images per epoch; process ``rank`` takes its slice of every global batch. What
    does not fill the last optimizer step is left out; a set smaller than one step is repeated to fill it.

    Args:
        images: Number of images.
        batch: Images per process and forward pass.
        accumulate: Forward passes per optimizer step.
        seed: Seed of the run.
        rank: This process.
        processes: Number of processes.
    """

    def __init__(self, images: int, batch: int, accumulate: int, seed: int, rank: int = 0, processes: int = 1) -> None:
        self.images, self.batch, self.seed = images, batch, seed
        self.rank, self.processes = rank, processes
        self.steps = max(1, images // (batch * accumulate * processes))
        self.epoch, self.first = 0, 0
        self._batches = self.steps * accumulate

    def start_at(self, epoch: int, first: int) -> None:
        """Continue with batch number ``first`` of ``epoch``."""
        self.epoch, self.first = epoch, first

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[Draw]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch))
        order = torch.randperm(self.images, generator=generator).tolist()
        for number in range(self.first, self._batches):
            begin = (number * self.processes + self.rank) * self.batch
            yield [(self.epoch, place, order[place % self.images]) for place in range(begin, begin + self.batch)]
