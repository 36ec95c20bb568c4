"""What a pretraining run is told: checked once, stored in its checkpoints, compared on resume."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from detgraft.base.checked import (
    STRICT,
    Expected,
    FromOne,
    FromOneOrNone,
    FromZero,
    FromZeroOrNone,
    NotNegative,
    Positive,
    PositiveOrNone,
    speaking,
)
from detgraft.base.processors import available_cpus
from detgraft.errors import ArgumentError
from detgraft.pretraining.masking import grid_of, visible_count

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
NORMALIZE = ("none", "imagenet")

Normalize = Annotated[
    str, Field(pattern=f"^({'|'.join(NORMALIZE)})$"), Expected(f"one of {', '.join(NORMALIZE)}", NORMALIZE)
]
Precision = Annotated[
    str | None,
    Field(pattern=f"^({'|'.join(PRECISIONS)})$"),
    Expected(f"one of {', '.join(PRECISIONS)}", tuple(PRECISIONS)),
]


@speaking(ArgumentError)
@dataclass(frozen=True, config=STRICT)
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
    epochs: FromOne = 800
    imgsz: FromOne = 224
    batch: FromOne = 64
    accumulate: FromOne = 1
    lr: PositiveOrNone = None
    weight_decay: NotNegative = 0.05
    width: Positive = 1.0
    mask_ratio: Annotated[float, Expected("a number between 0 and 1")] = 0.6
    normalize: Normalize = "none"
    seed: FromZero = 0

    def __post_init__(self) -> None:
        rows, columns = grid_of(self.imgsz, self.imgsz)
        visible_count(rows * columns, self.mask_ratio)


@speaking(ArgumentError)
@dataclass(frozen=True, config=STRICT)
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

    device: Any = None
    workers: FromZeroOrNone = None
    precision: Precision = None
    picture_every: FromZeroOrNone = None
    save_every: FromOne = 1
    max_steps: FromOneOrNone = None
    tensorboard: bool = False
    verbose: bool = True

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
