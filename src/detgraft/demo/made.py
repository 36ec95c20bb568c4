"""A small labelled detection set that is drawn, not downloaded: for the demo and for tests.

Pictures show cells, leaves and nuts that lie on stone, wood or cloth, partly covering one another, in uneven light,
with blur, noise and JPEG artefacts. Every box is measured on the pixels of its object that can still be seen.

Shape legend: H, W = picture height and width; P = side of an object's square patch.
"""

from __future__ import annotations

import json
import math
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from detgraft.demo.things import CLASSES, Array, Sprite, draw_background, fractal_noise
from detgraft.errors import ArgumentError, DataError, Location

VERSION = 1
"""Raised whenever the same arguments would draw other pictures, so that finished sets are not mistaken for new ones."""

MANIFEST = "manifest.json"
MIN_VISIBLE = 0.4
"""Least share of an object's own pixels that is inside the picture and not covered."""
_SPLITS = ("train", "val")
_TRIES = 30


@dataclass(frozen=True)
class Thing:
    """One object of a picture.

    Args:
        label: Class index.
        visible_HW: Which pixels of the picture show it.
        area: Pixels that it would cover if nothing hid it and the picture did not end.
    """

    label: int
    visible_HW: NDArray[np.bool_]
    area: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels; right and bottom are exclusive."""
        rows, columns = np.flatnonzero(self.visible_HW.any(1)), np.flatnonzero(self.visible_HW.any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    @property
    def visible(self) -> float:
        """Share of its own pixels that can be seen, 0..1."""
        return float(self.visible_HW.sum()) / max(self.area, 1)


@dataclass(frozen=True)
class Scene:
    """A drawn picture and what is in it.

    Args:
        image_HW3: uint8 RGB, before JPEG compression.
        things: Its objects, from the lowest to the topmost.
        quality: JPEG quality that the picture is to be stored with.
    """

    image_HW3: NDArray[np.uint8]
    things: tuple[Thing, ...]
    quality: int

    def label_lines(self) -> list[str]:
        """YOLO label rows: class, centre x, centre y, width, height, relative to the picture."""
        height, width = self.image_HW3.shape[:2]
        rows = []
        for thing in self.things:
            left, top, right, bottom = thing.box
            values = (
                (left + right) / 2 / width,
                (top + bottom) / 2 / height,
                (right - left) / width,
                (bottom - top) / height,
            )
            rows.append(" ".join([str(thing.label), *(f"{value:.6f}" for value in values)]))
        return rows


def draw_scene(imgsz: int, seed: int, split: str, index: int) -> Scene:
    """Draw one picture of the set.

    The picture depends on these four arguments alone, not on how many others there are.

    Args:
        imgsz: Side of the square picture in pixels.
        seed: Seed of the set.
        split: ``train`` or ``val``.
        index: Number of the picture within its split.
    """
    rng = np.random.default_rng([VERSION, seed, _SPLITS.index(split), index, imgsz])
    way = rng.uniform(0, 2 * math.pi)
    light = (math.cos(way), math.sin(way))
    picture = draw_background(rng, imgsz)
    things: list[Thing] = []
    for _ in range(int(rng.integers(3, 7))):
        picture = _place(rng, picture, things, light)
    image, quality = _photograph(rng, picture, light)
    return Scene(image, tuple(things), quality)


def _place(rng: np.random.Generator, picture: Array, things: list[Thing], light: tuple[float, float]) -> Array:
    """Put one more object where it hides nothing too much; without such a place the picture stays as it is."""
    imgsz = picture.shape[0]
    label = int(rng.integers(len(CLASSES)))
    size = imgsz * math.exp(rng.uniform(math.log(0.17), math.log(0.42)))
    sprite = CLASSES[label][1](rng, size, light)
    solid_PP = sprite.alpha_PP > 0.5
    area = int(solid_PP.sum())
    for _ in range(_TRIES):
        corner = rng.uniform(-0.3 * size, imgsz - 0.7 * size, 2).round().astype(int)
        mask_HW = _paste(np.zeros((imgsz, imgsz), np.bool_), solid_PP, corner)
        if mask_HW.sum() < MIN_VISIBLE * area:
            continue
        left_over = [(thing.visible_HW & ~mask_HW) for thing in things]
        if all(left.sum() >= MIN_VISIBLE * thing.area for left, thing in zip(left_over, things, strict=True)):
            things[:] = [Thing(thing.label, left, thing.area) for left, thing in zip(left_over, things, strict=True)]
            things.append(Thing(label, mask_HW, area))
            return _overlay(picture, sprite, corner, light, size)
    return picture


def _paste(base_HW: NDArray[Any], patch_PP: NDArray[Any], corner: NDArray[np.int_]) -> NDArray[Any]:
    """Write the part of the patch that falls inside the picture; ``corner`` is its upper left (x, y)."""
    height, width = base_HW.shape[:2]
    x, y = int(corner[0]), int(corner[1])
    top, bottom = max(y, 0), min(y + patch_PP.shape[0], height)
    left, right = max(x, 0), min(x + patch_PP.shape[1], width)
    base_HW[top:bottom, left:right] = patch_PP[top - y : bottom - y, left - x : right - x]
    return base_HW


def _overlay(
    picture: Array, sprite: Sprite, corner: NDArray[np.int_], light: tuple[float, float], size: float
) -> Array:
    """Lay an object and its soft shadow over the picture."""
    alpha_HW = _paste(np.zeros(picture.shape[:2], np.float32), sprite.alpha_PP, corner)
    colour_HW3 = _paste(picture.copy(), sprite.colour_PP3, corner)
    offset = 0.035 * size
    move = np.array([[1, 0, -light[0] * offset], [0, 1, -light[1] * offset]], np.float32)
    shadow_HW = cv2.warpAffine(alpha_HW, move, alpha_HW.shape[::-1])
    shadow_HW = cv2.GaussianBlur(shadow_HW, (0, 0), max(0.025 * size, 0.5))
    shaded = picture * (1.0 - 0.45 * shadow_HW[..., None])
    return np.asarray(shaded + (colour_HW3 - shaded) * alpha_HW[..., None], dtype=np.float32)


def _photograph(rng: np.random.Generator, picture: Array, light: tuple[float, float]) -> tuple[NDArray[np.uint8], int]:
    """Uneven light, colour cast, exposure, blur and sensor noise; also draws the JPEG quality."""
    imgsz = picture.shape[0]
    axis = np.linspace(-1.0, 1.0, imgsz, dtype=np.float32)
    slope = 1.0 + rng.uniform(0.0, 0.25) * (axis[None, :] * light[0] + axis[:, None] * light[1])
    patchy = 0.9 + 0.2 * fractal_noise(rng, imgsz, imgsz, (2, 2), 2)
    cast = rng.uniform(0.92, 1.06, 3) * rng.uniform(0.75, 1.12)
    lit = picture * (slope * patchy)[..., None] * cast
    if rng.random() < 0.5:
        lit = cv2.GaussianBlur(lit, (0, 0), float(rng.uniform(0.4, 1.1)) * imgsz / 256)
    lit = lit + rng.normal(0.0, rng.uniform(0.004, 0.025), lit.shape)
    return (np.clip(lit, 0.0, 1.0) * 255).round().astype(np.uint8), int(rng.integers(55, 94))


def make_shapes(
    folder: Path,
    *,
    train: int = 96,
    val: int = 24,
    imgsz: int = 256,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Make the set in YOLO format, or reuse it when the folder already holds the same one.

    The set grows in a hidden folder beside ``folder`` and takes its name only when it is complete. A finished set made
    with other arguments is replaced; a folder with anything else in it is refused.

    Args:
        folder: Where the set is to be: ``images/train``, ``images/val``, ``labels/...``, ``data.yaml``.
        train: Number of training pictures.
        val: Number of validation pictures.
        imgsz: Side of the square pictures in pixels.
        seed: Seed of everything random in it.
        progress: Called with (pictures done, pictures in all) after each picture.

    Returns:
        Path of the set's ``data.yaml``.

    Raises:
        ArgumentError: A count below 1, a size below 64 or a negative seed.
        DataError: ``folder`` holds something that this function did not make.
    """
    for name, value, least in (("train", train, 1), ("val", val, 1), ("imgsz", imgsz, 64), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ArgumentError(f"{name} must be a whole number of at least {least}, found {value!r}")
    folder = Path(folder).absolute()
    manifest = {"maker": "detgraft", "version": VERSION, "train": train, "val": val, "imgsz": imgsz, "seed": seed}
    if _finished(folder, manifest):
        return folder / "data.yaml"
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.part"
    try:
        _write_set(partial, manifest, {"train": train, "val": val}, progress)
        _swap(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return folder / "data.yaml"


def _finished(folder: Path, manifest: dict[str, Any]) -> bool:
    """Whether the folder already holds this very set.

    Raises:
        DataError: The folder holds something else than a set made here.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        ours = isinstance(found, dict) and found.get("maker") == manifest["maker"]
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise DataError(
            f"expected an empty or new folder, or a set made by detgraft (with its {MANIFEST}); found something else. "
            "It is left as it is: choose another folder.",
            Location(str(folder)),
        )
    complete = (folder / "data.yaml").is_file() and all(
        len(list((folder / kind / split).glob(f"*{suffix}"))) == manifest[split]
        for split in _SPLITS
        for kind, suffix in (("images", ".jpg"), ("labels", ".txt"))
    )
    return bool(found == manifest and complete)


def _write_set(
    folder: Path, manifest: dict[str, Any], counts: dict[str, int], progress: Callable[[int, int], None] | None
) -> None:
    total, done = sum(counts.values()), 0
    for split, count in counts.items():
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for index in range(count):
            scene = draw_scene(manifest["imgsz"], manifest["seed"], split, index)
            stem = f"{split}_{index:04d}"
            # Not cv2.imwrite: on Windows it cannot write to folders with Chinese names.
            ok, encoded = cv2.imencode(".jpg", scene.image_HW3[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, scene.quality])
            if not ok:
                raise DataError(f"OpenCV could not encode {stem}.jpg", Location(str(folder)))
            (images / f"{stem}.jpg").write_bytes(encoded.tobytes())
            (labels / f"{stem}.txt").write_text("\n".join(scene.label_lines()) + "\n", encoding="utf-8")
            done += 1
            if progress is not None:
                progress(done, total)
    # No `path` key: Ultralytics then looks beside the file, wherever the folder is moved.
    data = {"train": "images/train", "val": "images/val", "names": {i: name for i, (name, _) in enumerate(CLASSES)}}
    (folder / "data.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _swap(partial: Path, folder: Path) -> None:
    """Give the finished folder its name; what it replaces goes away only after that."""
    old = None
    if folder.exists():
        old = partial.with_suffix(".old")
        folder.replace(old)
    try:
        partial.replace(folder)
    except OSError:
        if old is not None:
            old.replace(folder)
        raise
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
