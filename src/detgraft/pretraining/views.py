"""Random views of unlabelled images with their masks, batch by batch, the same however a run is cut into pieces.

Every random choice for one view comes from a generator seeded with (run seed, epoch, place in the epoch). A view thus
depends neither on the number of worker processes nor on the number of GPUs, and a resumed run sees exactly the views
that the uninterrupted one would have seen.

The view follows "ConvNeXt V2" (facebookresearch/ConvNeXt-V2, main_pretrain.py): a random crop of 20 to 100 % of the
area, bicubic, mirrored half of the time. Written from the stated settings.

Input scale: Ultralytics feeds a detector RGB pixels as 0..1, without ImageNet's mean and deviation. Pretraining does
the same by default, so that the encoder fits into a detector as it is; the official code normalises. What the encoder
saw is written into its file, and a detector that starts from it sees the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from detgraft.errors import DataError
from detgraft.pretraining.images import centre_box, derive_seed, read_image, to_tensor
from detgraft.pretraining.masking import PATCH, random_mask
from detgraft.weights.input_scale import IMAGENET_SCALE

_SCALE = (0.2, 1.0)
_RATIO = (3.0 / 4.0, 4.0 / 3.0)
_CROP_TRIES = 10
_IMAGENET_MEAN, _IMAGENET_STD = IMAGENET_SCALE

Draw = tuple[int, int, int]  # epoch, place in the epoch, image number


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


def prepare(pictures_BCHW: Tensor, normalize: str) -> Tensor:
    """Return uint8 RGB pictures as the network's float input: 0..1, or with ImageNet's mean and deviation."""
    images = pictures_BCHW.to(torch.float32) / 255.0
    if normalize == "imagenet":
        images = (images - _channelwise(_IMAGENET_MEAN, images)) / _channelwise(_IMAGENET_STD, images)
    return images


def restore_pixels(images_BCHW: Tensor, normalize: str) -> Tensor:
    """Return network inputs as pixels of 0..1, the inverse of :func:`prepare`'s normalisation."""
    if normalize == "imagenet":
        return images_BCHW * _channelwise(_IMAGENET_STD, images_BCHW) + _channelwise(_IMAGENET_MEAN, images_BCHW)
    return images_BCHW


def _channelwise(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, 3, 1, 1)
