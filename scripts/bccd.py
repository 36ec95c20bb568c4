"""What the studies on BCCD of this folder share: copies of the data, the recipe, and the rows of a verdict."""

from __future__ import annotations

import argparse
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from detgraft.datasets.labels import label_file, list_images
from detgraft.study.judge.statistics import Comparison

RECIPE = """\
train:
  epochs: {epochs}
  imgsz: {imgsz}
  batch: 8
  nbs: 8
  optimizer: AdamW
  lr0: 0.002
  warmup_epochs: 1
  close_mosaic: 3
  workers: 2  # processes that load pictures, for each run
  amp: false  # the same arithmetic on a GPU as on a processor
"""
"""That of docs/results/bccd; each script says how many epochs of which size."""
FROM_SCRATCH = (
    RECIPE
    + """\
init: scratch
controls: none
workers: {workers}
out: {out}
"""
)
"""The rest of a study in which every arm begins with random weights."""


def arguments(description: str | None, seeds: int, between: Sequence[str] = ()) -> argparse.ArgumentParser:
    """A parser for BCCD, the paths ``between``, WORK, and what every study has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bccd", *between, "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--workers", type=int, default=2, help="runs at once")
    parser.add_argument("--seeds", type=int, default=seeds)
    return parser


def subset(source: Path, target: Path, percent: int = 100) -> Path:
    """Copy a share of the training pictures with their labels, and val and test whole; return the data YAML.

    A copy, because Ultralytics writes caches beside the labels. Smaller shares are parts of larger ones.
    """
    images = list_images(source / "images" / "train")
    random.Random(0).shuffle(images)
    chosen = images[: round(len(images) * percent / 100)]
    for split in ("val", "test"):
        chosen += list_images(source / "images" / split)
    for image in chosen:
        for path in (image, label_file(image)):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not copy.exists():
                shutil.copyfile(path, copy)
    shutil.copyfile(source / "data.yaml", target / "data.yaml")
    return target / "data.yaml"


def written(file: Path, text: str) -> Path:
    """A study file with this text; one that has it already is left as it is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.is_file() or file.read_text("utf-8") != text:
        file.write_text(text, "utf-8")
    return file


def percent(value: float, low: float, high: float, sign: str = "") -> str:
    """A figure with its interval, in points of AP."""
    return f"{100 * value:{sign}.1f} ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})"


def verdict(c: Comparison) -> str:
    """The last cells of an arm's row: difference with interval, p, verdict."""
    return f"{percent(c.difference, c.low, c.high, '+')} | {c.p_holm:.3f} | {c.verdict.value} |"
