"""What a pretraining run is told: checked once, stored in its checkpoints, compared on resume."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from detgraft.base.processors import available_cpus
from detgraft.errors import ArgumentError, nearest
from detgraft.pretraining.masking import grid_of, visible_count

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
NORMALIZE = ("none", "imagenet")


@dataclass(frozen=True)
class Settings:
    """Everything that the result depends on; a resumed run must have the same.

    Attributes:
        model: ``convnextv2_SIZE``, ``repvit_SIZE`` or ``timm/NAME``.
        data: Folder of images or data YAML.
        epochs: Number of passes over the images.
        imgsz: Side of the square training views in pixels, a multiple of 32.
        batch: Images per process and forward pass.
        accumulate: Forward passes per optimizer step.
        lr: Peak learning rate; None means 1.5e-4 * images per step / 256.
        weight_decay: AdamW's decay of kernels and matrices.
        width: Factor on the backbone's channels.
        mask_ratio: Share of hidden patches.
        normalize: "none" feeds pixels as 0..1, as Ultralytics does; "imagenet" subtracts mean and divides by deviation.
        seed: Seed of weights, order, views and masks.
    """

    model: str
    data: str
    epochs: int = 800
    imgsz: int = 224
    batch: int = 64
    accumulate: int = 1
    lr: float | None = None
    weight_decay: float = 0.05
    width: float = 1.0
    mask_ratio: float = 0.6
    normalize: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "imgsz", "batch", "accumulate"):
            _whole(name, getattr(self, name), least=1)
        _whole("seed", self.seed, least=0)
        _positive("width", self.width)
        if self.lr is not None:
            _positive("lr", self.lr)
        if not _is_number(self.weight_decay) or not 0 <= self.weight_decay < math.inf:
            raise ArgumentError(f"weight_decay must be a number of at least 0, found {self.weight_decay!r}")
        if not _is_number(self.mask_ratio):
            raise ArgumentError(f"mask_ratio must be a number between 0 and 1, found {self.mask_ratio!r}")
        rows, columns = grid_of(self.imgsz, self.imgsz)
        visible_count(rows * columns, self.mask_ratio)
        if self.normalize not in NORMALIZE:
            raise ArgumentError(
                f"normalize must be one of {', '.join(NORMALIZE)}, found {self.normalize!r}."
                f"{nearest(str(self.normalize), NORMALIZE)}"
            )


@dataclass(frozen=True)
class Options:
    """How the run is carried out; may differ after a resume.

    Attributes:
        device: None for the best available; "cpu", "cuda", 0, "0", "0,1", "mps".
        workers: Processes that read images, per training process; None for a sensible number.
        precision: "fp32", "bf16", "fp16"; None means bf16 on GPUs that have it, else fp32.
        picture_every: Epochs between reconstruction pictures; None means about twenty in a run, 0 none.
        save_every: Epochs between checkpoints.
        max_steps: Stop after so many optimizer steps in all (the schedule still follows ``epochs``).
        tensorboard: Write TensorBoard logs.
        verbose: Print progress.
    """

    device: str | int | None = None
    workers: int | None = None
    precision: str | None = None
    picture_every: int | None = None
    save_every: int = 1
    max_steps: int | None = None
    tensorboard: bool = False
    verbose: bool = True

    def __post_init__(self) -> None:
        for name, least in (("workers", 0), ("picture_every", 0), ("max_steps", 1)):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name), least)
        _whole("save_every", self.save_every, least=1)
        if self.precision is not None and self.precision not in PRECISIONS:
            raise ArgumentError(
                f"precision must be one of {', '.join(PRECISIONS)}, found {self.precision!r}."
                f"{nearest(str(self.precision), PRECISIONS)}"
            )

    def worker_count(self, processes_here: int) -> int:
        """Return the number of reading processes for each of the training processes on this machine."""
        if self.workers is not None:
            return self.workers
        return max(0, min(8, available_cpus() // max(1, processes_here) - 1))

    def picture_epochs(self, epochs: int) -> int:
        """Return the epochs between pictures; 0 for none."""
        return max(1, epochs // 20) if self.picture_every is None else self.picture_every


def merge_on_resume(asked: Settings, stored: dict[str, object], where: Path) -> Settings:
    """Return the stored settings, after checking that none was asked to be something else.

    A value that equals the default counts as not asked for.

    Raises:
        ArgumentError: Naming the first setting that differs.
    """
    defaults = {field.name: field.default for field in fields(Settings)}
    for name, value in asdict(asked).items():
        if name != "data" and name in stored and value not in (stored[name], defaults[name]):
            raise ArgumentError(
                f"{name}={value!r} was asked for, but the run in '{where}' that is to be resumed has "
                f"{name}={stored[name]!r}; leave it out, or start a new run"
            )
    known = {name: stored[name] for name in defaults if name in stored}
    known["data"] = asked.data  # the same images may lie elsewhere now; their fingerprint is compared later
    return Settings(**known)  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(f"{name} must be a whole number of at least {least}, found {value!r}")


def _positive(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ArgumentError(f"{name} must be a positive number, found {value!r}")
