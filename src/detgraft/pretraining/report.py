"""What a pretraining run leaves for people: pictures, a loss table and curve, progress on the screen.

Shape suffixes: B images, C channels, H and W pixels, L patches, P pixel values of a patch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from detgraft.base.files import csv_text, write_atomic, write_with
from detgraft.pretraining.fcmae import FCMAE
from detgraft.pretraining.images import centre_box, derive_seed, read_image, to_tensor, why_broken
from detgraft.pretraining.masking import PATCH, grid_of, patch_statistics, patchify, random_mask, unpatchify

_COLUMNS = ("original", "masked", "reconstruction")
_GREY = 0.5
_GAP = 6
_CAPTION = 18


def sample_images(paths: Sequence[Path], imgsz: int, count: int = 8) -> Tensor:
    """Return up to ``count`` readable images spread over the set, cut to squares: uint8 (B, 3, imgsz, imgsz)."""
    chosen: list[Tensor] = []
    stride = max(1, len(paths) // count)
    for path in [*paths[::stride], *paths]:
        if len(chosen) == min(count, len(paths)):
            break
        if why_broken(path) is None:
            image = read_image(path)
            box = centre_box(image.size, 1.0)
            chosen.append(to_tensor(image.resize((imgsz, imgsz), Image.Resampling.BICUBIC, box=box)))
    return torch.stack(chosen)


@torch.no_grad()
def reconstruct(model: FCMAE, images_BCHW: Tensor, mask_BL: Tensor) -> Tensor:
    """Return the images with the hidden patches replaced by what the model predicts, in the model's input scale.

    A model that predicts normalised patches says nothing about a patch's brightness and contrast; those two numbers
    per patch are taken from the original, as is usual for such pictures.
    """
    grid = grid_of(images_BCHW.shape[2], images_BCHW.shape[3])
    predicted_BLP = model.decode(model.encode(images_BCHW, mask_BL), mask_BL).float()
    original_BLP = patchify(images_BCHW)
    if model.normalise:
        mean, deviation = patch_statistics(original_BLP)
        predicted_BLP = predicted_BLP * deviation + mean
    return unpatchify(torch.where(mask_BL[:, :, None], predicted_BLP, original_BLP), grid)


def fixed_masks(images: int, imgsz: int, ratio: float, seed: int) -> Tensor:
    """Return the masks that every picture of a run uses: bool (B, L)."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "picture"))
    return random_mask(images, (imgsz // PATCH) ** 2, ratio, generator)


def save_picture(path: Path, original_BCHW: Tensor, mask_BL: Tensor, result_BCHW: Tensor) -> Image.Image:
    """Write a PNG with one row per image: original, what the encoder sees, reconstruction (all 0..1)."""
    size = original_BCHW.shape[2]
    grid = grid_of(size, size)
    hidden_BLP = mask_BL[:, :, None].expand(-1, -1, PATCH * PATCH * 3)
    masked = unpatchify(torch.where(hidden_BLP, _GREY, patchify(original_BCHW)), grid)
    width, height = 3 * size + 2 * _GAP, _CAPTION + len(original_BCHW) * (size + _GAP) - _GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (caption, stack) in enumerate(zip(_COLUMNS, (original_BCHW, masked, result_BCHW), strict=True)):
        left = column * (size + _GAP)
        draw.text((left + 4, 3), caption, fill="black")
        for row, image_CHW in enumerate(stack):
            sheet.paste(_to_image(image_CHW), (left, _CAPTION + row * (size + _GAP)))
    write_with(path, lambda part: sheet.save(part, format="PNG"))
    return sheet


def _to_image(image_CHW: Tensor) -> Image.Image:
    pixels = (image_CHW.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(np.ascontiguousarray(pixels))


def save_losses(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Write the loss table as CSV; numbers in full, so that they read back exactly."""
    head = ("epoch", "step", "loss", "lr", "seconds")
    rows = ((e["epoch"], e["step"], e["loss"], e["lr"], f"{e['seconds']:.1f}") for e in history)
    write_atomic(path, csv_text([head, *rows]))


def save_curve(path: Path, history: Sequence[dict[str, float]], title: str) -> bool:
    """Draw loss and learning rate over epochs as PNG; return False where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    epochs = [entry["epoch"] for entry in history]
    axes.plot(epochs, [entry["loss"] for entry in history], marker="." if len(epochs) < 40 else "", label="loss")
    axes.set(xlabel="epoch", ylabel="loss on masked patches", title=title)
    axes.ticklabel_format(useOffset=False)
    axes.grid(alpha=0.3)
    rate = axes.twinx()
    rate.plot(epochs, [entry["lr"] for entry in history], color="tab:orange", linewidth=1, label="learning rate")
    rate.set_ylabel("learning rate", color="tab:orange")
    write_with(path, lambda part: figure.savefig(part, format="png"))
    return True


def as_duration(seconds: float) -> str:
    """Return hours, minutes and seconds as text, for example ``1:02:03``."""
    if not math.isfinite(seconds):
        return "unknown"
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class Screen:
    """Progress for people: a bar with the time left on a terminal, one line per epoch elsewhere.

    Args:
        shown: Whether to print at all.
        steps: Optimizer steps of the whole run.
        done: Steps already done by the run that is resumed.
    """

    def __init__(self, shown: bool, steps: int, done: int) -> None:
        self._shown, self._steps, self._first = shown, steps, done
        self._start = time.monotonic()
        self._console = Console(stderr=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._loss = ""

    def __enter__(self) -> Screen:
        self._start = time.monotonic()
        if self._shown and self._console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=self._console,
            )  # fmt: skip
            self._task = self._bar.add_task("pretraining", total=self._steps, completed=self._first)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def say(self, text: str) -> None:
        """Print one line (plain text, no markup)."""
        if self._shown:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def step(self, step: int, epoch: int, epochs: int, loss: float | None) -> None:
        """Show that ``step`` optimizer steps are done."""
        if self._bar is not None and self._task is not None:
            if loss is not None:
                self._loss = f"  loss {loss:.4f}"
            self._bar.update(self._task, completed=step, description=f"epoch {epoch + 1}/{epochs}{self._loss}")

    def epoch(self, entry: dict[str, float], epochs: int) -> None:
        """Report a finished epoch."""
        step = int(entry["step"])
        self.step(step, int(entry["epoch"]) - 1, epochs, entry["loss"])
        spent = time.monotonic() - self._start
        left = spent / (step - self._first) * (self._steps - step) if step > self._first else math.inf
        self.say(
            f"epoch {int(entry['epoch'])}/{epochs}  loss {entry['loss']:.4f}  lr {entry['lr']:.2e}  "
            f"time {as_duration(entry['seconds'])}  left {as_duration(left)}"
        )
