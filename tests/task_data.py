"""A small set for each task: turned rectangles, labelled by outlines, key points, rotated boxes or folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = (80, 120)  # height and width
NAMES = ("bar", "block")


def corners(random: np.random.Generator) -> tuple[np.ndarray, int]:
    """A turned rectangle in pixels, and its class by its shape."""
    kind = int(random.integers(0, 2))
    half = np.array((18.0, 6.0) if kind == 0 else (11.0, 10.0))
    turn = random.uniform(0, np.pi)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    return square @ turned.T + random.uniform((20, 20), (SIZE[1] - 20, SIZE[0] - 20)), kind


def make_data(folder: Path, task: str, train: int = 4, val: int = 3) -> Path:
    """Pictures of turned rectangles with the labels of a task; returns what `data:` is to name."""
    random = np.random.default_rng(3)
    for split, count in (("train", train), ("val", val), ("test", val)):
        for i in range(count):
            picture = Image.new("RGB", SIZE[::-1], (210, 205, 190))
            pen = ImageDraw.Draw(picture)
            lines, kinds = [], []
            for _ in range(1 if task == "classify" else 2):
                points, kind = corners(random)
                pen.polygon([tuple(point) for point in points], fill=(60 + 120 * kind, 70, 160 - 110 * kind))
                share = points / SIZE[::-1]
                kinds.append(kind)
                words = share.reshape(-1)
                if task == "pose":
                    low, high = share.min(0), share.max(0)
                    marked = np.concatenate([share, np.array([[2], [2], [1], [0]])], axis=1)
                    words = np.concatenate([(low + high) / 2, high - low, marked.reshape(-1)])
                lines.append(f"{kind} " + " ".join(f"{value:.6f}" for value in words))
            if task == "classify":
                place = folder / split / NAMES[i % 2]
                picture = picture.rotate(90 * i)
            else:
                place = folder / "images" / split
                labels = folder / "labels" / split
                labels.mkdir(parents=True, exist_ok=True)
                (labels / f"{i}.txt").write_text("\n".join(lines) + "\n")
            place.mkdir(parents=True, exist_ok=True)
            picture.save(place / f"{i}.png")
    if task == "classify":
        return folder
    more = "kpt_shape: [4, 3]\n" if task == "pose" else ""
    (folder / "data.yaml").write_text(
        f"path: {folder}\ntrain: images/train\nval: images/val\ntest: images/test\nnames: [bar, block]\n{more}"
    )
    return folder / "data.yaml"
