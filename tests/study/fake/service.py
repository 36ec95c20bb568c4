"""Stands in for every module of ``detgraft.upstream.service`` that a study uses: no Ultralytics, nothing is trained.

A "checkpoint" is a zip with the arm's name; a "detector" finds all labels of a picture, a little moved by its arm.
"""

from __future__ import annotations

import copy
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml
from torch import nn

SIZE = (48, 64)
PICTURES = [f"picture {i}.jpg" for i in range(6)]


@dataclass(frozen=True)
class Start:
    model: Any

    def received(self, weights: str) -> Any:
        return SimpleNamespace(share=0.5)


@dataclass(frozen=True)
class Epoch:
    number: int
    epochs: int
    fitness: float | None
    is_best: bool
    is_last: bool
    figures: Mapping[str, float | None]
    last: Path
    best: Path
    folder: Path


@dataclass(frozen=True)
class LabelledPicture:
    file: str
    classes_G: Any
    boxes_G4: Any
    outlines_G: Any = ()
    points_GKC: Any = None


@dataclass(frozen=True)
class Validated:
    figures: Mapping[str, float | None]
    pictures: tuple[LabelledPicture, ...]
    names: Mapping[int, str]
    has_test: bool
    task: str = "detect"
    scales_K: tuple[float, ...] = ()
    ranked_IC: Any = None


@dataclass(frozen=True)
class FoundInPicture:
    boxes_D4: Any
    scores_D: Any
    classes_D: Any
    size: tuple[int, int]
    masks_DHW: Any = None
    points_DKC: Any = None
    rotated_D5: Any = None


def match_rotated(found: FoundInPicture, labelled: LabelledPicture) -> Any:
    raise AssertionError("nothing here is rotated")


class Layers(nn.Module):
    """As much of a detector as its price needs."""

    def __init__(self, name: str, classes: int) -> None:
        super().__init__()
        self.name, self.yaml = name, {"channels": 3}
        self.model = nn.Sequential(
            nn.Conv2d(3, 8 if "+" in name else 4, 3, 2), nn.Conv2d(8 if "+" in name else 4, 4, 1)
        )
        for layer in self.model:
            layer.f, layer.type = -1, "Conv"

    def forward(self, x: Any) -> Any:
        return self.model(x)


def training_arguments() -> list[str]:
    return ["epochs", "imgsz", "batch", "workers"]


def task_named(model: str, plugins: Sequence[str] = ()) -> str:
    return "detect"


def prepared_data(data: str, folder: str, task: str = "detect") -> str:
    return data


def data_sources(data: str) -> dict[str, list[str]]:
    return {}


def class_names(data: str) -> dict[int, str]:
    return dict(enumerate(yaml.safe_load(Path(data).read_text())["names"]))


def names_in(weights: str) -> dict[int, str]:
    raise AssertionError("no models are compared here")


def trained_size(weights: str) -> int | None:
    raise AssertionError("no models are compared here")


def looking(trust: bool) -> Any:
    raise AssertionError("no models are compared here")


def wrong_arguments(values: Mapping[str, Any]) -> dict[str, str]:
    return {}


def check_splits(data: str, split: str) -> None:
    assert split == "auto"


def own_weights(model: str, plugins: Sequence[str] = ()) -> list[str]:
    return []


def task_of(built: Any) -> str:
    return "detect"


def fetched(weights: str) -> Path:
    return Path(weights)


def built_arm(
    model: str,
    names: Mapping[int, str],
    imgsz: int,
    weights: str | None = None,
    minimum: float = 0.0,
    plugins: Sequence[str] = (),
) -> Any:
    return Layers(model, len(names))


def pixels_of(model: Any) -> list[str]:
    return []


def fused_copy(model: Any) -> Any:
    return copy.deepcopy(model).eval()


def open_trainable(model: str, plugins: Sequence[str] = ()) -> Any:
    return Layers(model, 1)


def start_from(model: Any, weights: str, minimum: float) -> None:
    assert minimum <= 0.5


def weights_of(folder: Path) -> Path:
    return folder / "weights"


def device_name() -> str:
    return "cpu"


def train(
    model: Any, watcher: Any, settings: Mapping[str, Any], *, data: str, seed: int, folder: Path, resume: bool
) -> Path:
    watcher.note_transfer(Start(model))
    weights = weights_of(folder)
    weights.mkdir(parents=True, exist_ok=True)
    epochs = int(settings["epochs"])
    for number in range(epochs):
        watcher.refuse_other_batch(int(settings["batch"]))
        for name in ("last.pt", "best.pt"):
            with zipfile.ZipFile(weights / name, "w") as archive:
                archive.writestr("arm", f"{model.name} {seed}")
        figures = {"train/box_loss": 1.0 / (number + 1), "metrics/mAP50-95(B)": 0.1 * number}
        watcher.publish(
            Epoch(
                number, epochs, 0.1 * number, True, number + 1 == epochs, figures, weights / "last.pt",
                weights / "best.pt", folder,
            )
        )  # fmt: skip
    return weights / "best.pt"


def validate(
    weights: str,
    data: str,
    split: str,
    imgsz: int,
    batch: int,
    folder: Path,
    device: str | None = None,
    classes: Any = None,
) -> Validated:
    names = yaml.safe_load(Path(data).read_text())["names"]
    random = np.random.default_rng(0)
    pictures = tuple(
        LabelledPicture(
            str(Path(data).parent / file),
            np.arange(3) % len(names),
            np.concatenate((random.uniform(0.3, 0.7, (3, 2)), random.uniform(0.3, 0.5, (3, 2))), axis=1),
        )
        for file in PICTURES
    )
    return Validated({"metrics/mAP50-95(B)": 0.5}, pictures, dict(enumerate(names)), has_test=False)


def detect(
    weights: str,
    files: Sequence[str],
    imgsz: int,
    lowest: float,
    overlap: float,
    device: str | None = None,
    classes: Any = None,
) -> Iterator[FoundInPicture]:
    with zipfile.ZipFile(weights) as archive:
        arm = archive.read("arm").decode()
    random = np.random.default_rng(len(arm) + ord(arm[-1]))
    height, width = SIZE
    truth = np.random.default_rng(0)
    for _ in files:
        centre, extent = truth.uniform(0.3, 0.7, (3, 2)), truth.uniform(0.3, 0.5, (3, 2))
        boxes = np.concatenate((centre - extent / 2, centre + extent / 2), axis=1) * (width, height, width, height)
        moved = boxes + random.normal(0, 0.5 if "+" in arm else 2.0, boxes.shape)
        yield FoundInPicture(moved, np.array([0.9, 0.8, 0.7]), np.arange(3) % 2, SIZE)
