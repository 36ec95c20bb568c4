"""Small pictures and small runs for the tests of the room pretrain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from detgraft.pretraining.api import PretrainResult, pretrain

# A run small enough for a test: 96 pixels are 3x3 patches, of which 3 are visible.
SMALL: dict[str, Any] = {
    "epochs": 3,
    "imgsz": 96,
    "batch": 4,
    "width": 0.2,
    "lr": 1e-3,
    "workers": 0,
    "device": "cpu",
    "picture_every": 0,
    "verbose": False,
}


def scenes(count: int, size: int = 96, seed: int = 0) -> Tensor:
    """Pictures of a few plain shapes on a shaded ground, float (count, 3, size, size) of 0..1."""
    rng = np.random.RandomState(seed)
    rows, columns = np.mgrid[0:size, 0:size] / size
    pictures = []
    for _ in range(count):
        picture = 0.3 + 0.4 * (rows * rng.rand() + columns * rng.rand())[None] * rng.rand(3, 1, 1)
        for _ in range(6):
            y, x, r = rng.rand(3)
            inside = (rows - y) ** 2 + (columns - x) ** 2 < (0.05 + 0.15 * r) ** 2
            picture = np.where(inside[None], rng.rand(3, 1, 1), picture)
        pictures.append(picture)
    return torch.from_numpy(np.stack(pictures)).float().clamp(0, 1)


def image_folder(folder: Path, count: int = 12, size: int = 96) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(scenes(count, size)):
        pixels = (picture.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).resize((size + 10 * (index % 3), size)).save(folder / f"picture_{index:02d}.png")
    return folder


def small_run(data: Path, save_dir: Path, **changes: Any) -> PretrainResult:
    model = changes.pop("model", "convnextv2_atto")
    return pretrain(model, data, save_dir=save_dir, **{**SMALL, **changes})


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Give norms, biases and GRN values that matter; fresh ones are 0 or 1 and would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim <= 1:
                parameter.copy_(0.5 + 0.3 * torch.randn(parameter.shape, generator=generator))
