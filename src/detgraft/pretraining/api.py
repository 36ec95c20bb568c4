"""`pretrain`: from a folder of images to a backbone that a detector starts from.

Needs the extra ``pretrain``.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import torch
import torch.distributed as dist

from detgraft.errors import ArgumentError, DataError, DetgraftError
from detgraft.pretraining.backbones import build_backbone, canonical_name
from detgraft.pretraining.checkpoint import LAST, WEIGHTS, load_checkpoint
from detgraft.pretraining.contents import TABLE, check_contents, record_contents, refuse_other_names
from detgraft.pretraining.devices import Fabric, make_fabric
from detgraft.pretraining.images import ImageList, find_images, why_broken
from detgraft.pretraining.loop import Trainer
from detgraft.pretraining.settings import Options, Settings, merge_on_resume

_PROJECT = Path("runs") / "pretrain"
_BROKEN_SHOWN = 5
_LOCK = ".lock"


@dataclass(frozen=True)
class PretrainResult:
    """What a call of :func:`pretrain` left.

    Attributes:
        weights: Encoder in timm's layout (safetensors); give it to ``weights=`` of a graft.
        checkpoint: State to continue from with ``resume``.
        save_dir: Folder of the run.
        losses: Mean loss of each finished epoch.
        epochs: Finished epochs.
        steps: Finished optimizer steps.
        images: Number of image files.
        completed: Whether all epochs are done (not so after ``max_steps``).
        broken: Image files that could not be read.
        table: CSV of losses.
        curve: PNG of losses, or None where matplotlib is not installed or no epoch is finished.
        pictures: Reconstruction pictures made by this call.
        seconds: Training time, resumed parts included.
    """

    weights: Path
    checkpoint: Path
    save_dir: Path
    losses: tuple[float, ...]
    epochs: int
    steps: int
    images: int
    completed: bool
    broken: tuple[Path, ...]
    table: Path
    curve: Path | None
    pictures: tuple[Path, ...]
    seconds: float


def pretrain(
    model: str,
    data: str | Path,
    *,
    epochs: int = 800,
    imgsz: int = 224,
    batch: int = 64,
    accumulate: int = 1,
    lr: float | None = None,
    weight_decay: float = 0.05,
    width: float = 1.0,
    mask_ratio: float = 0.6,
    normalize: str = "none",
    seed: int = 0,
    device: str | int | None = None,
    workers: int | None = None,
    precision: str | None = None,
    project: str | Path | None = None,
    name: str | None = None,
    save_dir: str | Path | None = None,
    resume: bool | str | Path = False,
    picture_every: int | None = None,
    save_every: int = 1,
    max_steps: int | None = None,
    tensorboard: bool = False,
    verbose: bool = True,
) -> PretrainResult:
    """Pretrain a backbone on images without labels by masked autoencoding (FCMAE).

    The folder ``save_dir`` (or ``project/name``) receives ``encoder.safetensors``, ``last.pt``, ``losses.csv``,
    ``losses.png``, ``pictures/`` and, if needed, ``broken.txt``. Ctrl-C writes a checkpoint first; ``resume=True``
    continues it with the losses that an uninterrupted run would have had. Several GPUs: ``device="0,1"`` in a script,
    or ``torchrun`` for one or more machines.

    Args:
        model: ``convnextv2_SIZE``, ``repvit_SIZE`` or ``timm/NAME`` (a convolutional backbone).
        data: Folder of images (with subfolders), or a data YAML whose ``train`` images are used without labels.
        epochs: Passes over the images. The rate warms up during 40 epochs, or 5 % of the epochs if they are below 800.
        imgsz: Side of the square training views, a multiple of 32.
        batch: Images per process and forward pass.
        accumulate: Forward passes per optimizer step.
        lr: Peak learning rate; None means 1.5e-4 * images per step / 256.
        weight_decay: AdamW's decay of kernels and matrices.
        width: Factor on the backbone's channels (not for ``timm/NAME``).
        mask_ratio: Share of the 32-pixel patches to hide.
        normalize: "none" trains on pixels of 0..1, which is what Ultralytics feeds a detector, so that the weights
            fit as they are; "imagenet" subtracts ImageNet's mean and divides by its deviation, as the official code.
        seed: Seed of weights, order, views and masks.
        device: None for the best available, "cpu", "mps", "cuda", 0, "0,1".
        workers: Processes that read images, per training process.
        precision: "fp32", "bf16" or "fp16"; None means bf16 on GPUs that have it, else fp32.
        project: Folder of runs; "runs/pretrain" if None.
        name: Folder of this run in it; the model's name, with a number if taken, if None.
        save_dir: Folder of this run, instead of ``project`` and ``name``.
        resume: Continue the run in the named folder, the newest one in ``project`` if none is named, or a path.
        picture_every: Epochs between reconstruction pictures; None about twenty in a run, 0 none.
        save_every: Epochs between checkpoints; the last epoch and an interrupted run are always saved.
        max_steps: Stop (and save) after so many optimizer steps in all; the schedule still follows ``epochs``.
        tensorboard: Write TensorBoard logs to ``save_dir/tensorboard``.
        verbose: Print progress.

    Raises:
        ArgumentError: For an unusable argument, or one that contradicts the run to be resumed.
        SizeError: If ``imgsz`` is not a multiple of 32.
        CatalogError: If the model is unknown or cannot be right under a mask.
        DataError: If there are no readable images.
        WeightsError: If the checkpoint to be resumed cannot be read.
        KeyboardInterrupt: After Ctrl-C, once everything is saved.
    """
    model = canonical_name(model)
    settings = Settings(
        model, str(data), epochs, imgsz, batch, accumulate, lr, weight_decay, width, mask_ratio, normalize, seed
    )
    options = Options(device, workers, precision, picture_every, save_every, max_steps, tensorboard, verbose)
    folder = _Folder(model, project, name, save_dir, resume)
    content = None
    if folder.checkpoint is not None:
        content = load_checkpoint(folder.checkpoint)
        settings = merge_on_resume(settings, content["settings"], folder.checkpoint.parent)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        build_backbone(settings.model, settings.width)  # a wrong name shows before anything is read or launched
    images = find_images(settings.data)
    _require_readable(images)
    return _run(settings, options, images, folder, content)


def _run(
    settings: Settings, options: Options, images: ImageList, folder: _Folder, content: dict[str, Any] | None
) -> PretrainResult:
    own_group = not (dist.is_available() and dist.is_initialized())
    fabric, scaler = make_fabric(options)
    fabric.launch()
    try:
        place, contents = _claim(folder, images, fabric, content)
        trainer = Trainer(settings, options, images, place, fabric, scaler, content, contents)
        outcome = trainer.fit()
        result = _result(trainer, outcome.completed, outcome.pictures)
        _tell(trainer, result)
    finally:
        folder.release()
        if own_group and dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
    return result


def _claim(folder: _Folder, images: ImageList, fabric: Fabric, content: dict[str, Any] | None) -> tuple[Path, str]:
    """Take the run's folder and look at its images, in the first process; the others hear what it found."""
    told: tuple[str, str, DetgraftError | None] = "", "", None
    if fabric.is_global_zero:
        try:
            place = folder.choose()
            if content is None:
                told = str(place), record_contents(images, place), None
            else:
                refuse_other_names(images, content["identity"])
                told = str(place), check_contents(images, place, content["identity"].get("contents")), None
        except DetgraftError as error:
            told = "", "", error
    chosen, contents, refusal = fabric.broadcast(told)
    if refusal is not None:
        raise refusal
    return Path(chosen), contents


class _Folder:
    """Where a run is written, and the checkpoint that it continues from, if any."""

    def __init__(
        self,
        model: str,
        project: str | Path | None,
        name: str | None,
        save_dir: str | Path | None,
        resume: bool | str | Path,
    ) -> None:
        if save_dir is not None and (project is not None or name is not None):
            raise ArgumentError("give either save_dir or project and name, not both")
        self._project = _PROJECT if project is None else Path(project)
        self._name = model.replace("/", "-") if name is None else name
        self._named = Path(save_dir) if save_dir is not None else (None if name is None else self._project / name)
        self._is_save_dir = save_dir is not None
        self.checkpoint: Path | None = None
        self._lock: filelock.BaseFileLock | None = None
        self._made: Path | None = None
        if resume is True:
            self.checkpoint = (self._named or self._newest()) / LAST
        elif resume is not False:
            path = Path(resume)
            self.checkpoint = path / LAST if path.is_dir() else path
        elif self._is_save_dir and self._named is not None and (self._named / LAST).exists():
            raise ArgumentError(
                f"save_dir='{self._named}' already holds a run; continue it with resume=True, or name another"
            )

    def choose(self) -> Path:
        """Take the run's folder for this process alone; a new run in a project gets a number where its name is taken.

        Raises:
            ArgumentError: Another run writes to the folder.
        """
        if self.checkpoint is not None:
            return self._locked(self.checkpoint.parent)
        if self._is_save_dir and self._named is not None:
            if not self._is_made(self._named) and not self._named.is_dir():
                raise ArgumentError(f"save_dir='{self._named}' is a file; name a folder")
            return self._locked(self._named)
        number, place = 1, self._project / self._name
        while not self._is_made(place):
            number += 1
            place = self._project / f"{self._name}{number}"
        return self._locked(place)

    def release(self) -> None:
        """Let others write to the folder; one that was made here and stayed empty is removed."""
        if self._lock is None:
            return
        self._lock.release()
        self._lock = None
        if self._made is not None and not any((self._made / name).exists() for name in (LAST, WEIGHTS)):
            for name in (_LOCK, TABLE):
                (self._made / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it holds something else
                self._made.rmdir()

    def _is_made(self, place: Path) -> bool:
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            return False
        self._made = place
        return True

    def _locked(self, place: Path) -> Path:
        lock = filelock.FileLock(place / _LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise ArgumentError(
                f"another pretraining writes to '{place}' right now; wait for it, or name another folder"
            ) from None
        self._lock = lock
        if self.checkpoint is None and (place / LAST).exists():  # made since this one began
            raise ArgumentError(f"'{place}' holds a run by now; continue it with resume=True, or name another")
        return place

    def _newest(self) -> Path:
        found = sorted(self._project.glob(f"*/{LAST}"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise ArgumentError(f"there is nothing to resume: no run with a checkpoint in '{self._project}'")
        return found[-1].parent


def _require_readable(images: ImageList) -> None:
    """Raise `DataError` unless at least one image can be read; stops at the first readable one."""
    reason = ""
    for path in images.paths:
        why = why_broken(path)
        if why is None:
            return
        reason = reason or f"{path}: {why}"
    raise DataError(f"none of the {len(images.paths)} images in '{images.source}' can be read; the first: {reason}")


def _result(trainer: Trainer, completed: bool, pictures: list[Path]) -> PretrainResult:
    progress, place = trainer.progress, trainer.save_dir
    curve = place / "losses.png"
    return PretrainResult(
        weights=place / WEIGHTS,
        checkpoint=place / LAST,
        save_dir=place,
        losses=tuple(entry["loss"] for entry in progress.history),
        epochs=progress.epoch,
        steps=progress.step,
        images=len(trainer.images.paths),
        completed=completed,
        broken=tuple(Path(path) for path in sorted(progress.broken)),
        table=place / "losses.csv",
        curve=curve if curve.exists() else None,
        pictures=tuple(pictures),
        seconds=progress.seconds,
    )


def _tell(trainer: Trainer, result: PretrainResult) -> None:
    say = trainer.screen.say
    if result.broken:
        shown = ", ".join(path.name for path in result.broken[:_BROKEN_SHOWN])
        more = f" and {len(result.broken) - _BROKEN_SHOWN} more" if len(result.broken) > _BROKEN_SHOWN else ""
        listing = result.save_dir / "broken.txt"
        say(f"{len(result.broken)} image(s) could not be read, listed in {listing}: {shown}{more}")
    if not result.completed:
        say(f"stopped after {result.steps} steps; continue with resume=True (state in {result.checkpoint})")
        return
    settings = trainer.settings
    width = f"width={settings.width}," if settings.width != 1.0 else ""
    say(f"done: {result.weights}")
    file = f"'{result.weights}'" if re.search(r"[\s,()=]", str(result.weights)) else result.weights
    expression = f"yolo11n+{settings.model}({width}weights={file})"
    say(f'use it: YOLO("{expression}"), or detgraft train "model={expression}" data=...')
