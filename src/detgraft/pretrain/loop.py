"""The training loop, on Lightning Fabric: devices, precision, several processes, checkpoints, Ctrl-C.

A run can be stopped at any moment (Ctrl-C, a kill, a power cut) and continued from its last checkpoint with the same
losses as if it had never stopped: order, views and masks are functions of (seed, epoch, place), the learning rate of
the step, and the checkpoint holds the rest. On a CPU the continuation is equal bit for bit.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader

from detgraft.errors import ArgumentError, DataError, DetgraftError, MissingExtraError
from detgraft.pretrain.backbones import build_backbone
from detgraft.pretrain.checkpoint import LAST, WEIGHTS, Progress, export_encoder, save_checkpoint, write_atomically
from detgraft.pretrain.fcmae import FCMAE
from detgraft.pretrain.images import Batch, EpochBatches, ImageList, Views, collate, derive_seed
from detgraft.pretrain.optim import build_optimizer, default_lr, learning_rate
from detgraft.pretrain.report import (
    Screen,
    as_duration,
    fixed_masks,
    reconstruct,
    sample_images,
    save_curve,
    save_losses,
    save_picture,
)
from detgraft.pretrain.settings import PRECISIONS, Options, Settings

try:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision
except ImportError as error:
    raise MissingExtraError("lightning-fabric", "pretrain") from error

_LOOK_EVERY = 20  # optimizer steps between looks at the loss; each look makes a GPU wait
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def make_fabric(options: Options) -> tuple[Fabric, torch.amp.GradScaler | None]:
    """Return a Fabric for the wanted devices and precision, and the loss scaler of fp16.

    Under ``torchrun`` the number of processes comes from its environment variables.

    Raises:
        ArgumentError: If the device or the precision is not available here.
    """
    accelerator, devices = _devices(options.device)
    nodes = 1
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        devices, nodes = local, int(os.environ["WORLD_SIZE"]) // local
    several = nodes > 1 or (devices if isinstance(devices, int) else len(devices)) > 1
    precision = options.precision or ("bf16" if accelerator == "cuda" and torch.cuda.is_bf16_supported() else "fp32")
    scaler: torch.amp.GradScaler | None = None
    plugins: list[Any] = []
    if precision == "fp16":
        if accelerator != "cuda":
            raise ArgumentError(f"precision=fp16 needs a CUDA device, found {accelerator}; use bf16 or fp32")
        scaler = torch.amp.GradScaler("cuda")
        plugins = [MixedPrecision("16-mixed", "cuda", scaler=scaler)]
    chosen: Any = None if plugins else PRECISIONS[precision]
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if several else "auto",
        precision=chosen,
        plugins=plugins or None,
    )
    return fabric, scaler


def _devices(device: str | int | None) -> tuple[str, int | list[int]]:
    """Return Fabric's accelerator and devices for what the user wrote."""
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    text = "" if device is None else str(device).strip().lower()
    if text == "":
        if cuda:
            return "cuda", 1
        return ("mps" if torch.backends.mps.is_available() else "cpu"), 1
    if text in ("cpu", "mps"):
        if text == "mps" and not torch.backends.mps.is_available():
            raise ArgumentError("device=mps is not available here")
        return text, 1
    numbers = text.removeprefix("cuda").removeprefix(":") or "0"
    try:
        indices = [int(number) for number in numbers.split(",")]
    except ValueError:
        raise ArgumentError(
            f"device must be 'cpu', 'mps', 'cuda' or GPU numbers like 0 or 0,1; found {device!r}"
        ) from None
    missing = [index for index in indices if not 0 <= index < cuda]
    if missing:
        raise ArgumentError(f"device={device!r}: there is no GPU number {missing[0]}; this machine shows {cuda} GPU(s)")
    return "cuda", indices


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a wish to stop after the current step; the second one acts at once."""

    def __init__(self, screen: Screen) -> None:
        self.signal: int | None = None
        self._screen = screen

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the block runs; outside the main thread signals cannot be caught and nothing is changed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        self._screen.say("stopping after this step; a checkpoint will be written (again to stop at once)")

    def exception(self) -> BaseException:
        """Return what to raise once everything is saved."""
        return KeyboardInterrupt() if self.signal == signal.SIGINT else SystemExit(128 + int(self.signal or 0))


@dataclass
class Outcome:
    """How a call of :meth:`Trainer.fit` ended: all epochs done, or stopped by ``max_steps``."""

    completed: bool
    pictures: list[Path]


class Trainer:
    """One pretraining run in one process.

    Args:
        settings: What is trained.
        options: How it is carried out.
        images: The images.
        save_dir: Where everything is written (by the first process).
        fabric: Launched Fabric.
        scaler: Loss scaler of fp16.
        checkpoint: Content of a checkpoint to continue from.
    """

    def __init__(
        self,
        settings: Settings,
        options: Options,
        images: ImageList,
        save_dir: Path,
        fabric: Fabric,
        scaler: torch.amp.GradScaler | None = None,
        checkpoint: dict[str, Any] | None = None,
    ) -> None:
        self.settings, self.options, self.images, self.save_dir = settings, options, images, save_dir
        self.fabric, self.scaler = fabric, scaler
        self.progress = Progress()
        self.batches = EpochBatches(
            len(images.paths), settings.batch, settings.accumulate, settings.seed, fabric.global_rank, fabric.world_size
        )
        self.effective_batch = settings.batch * settings.accumulate * fabric.world_size
        self.lr = settings.lr if settings.lr is not None else default_lr(self.effective_batch)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(settings.seed, "weights"))
            self.model = FCMAE(build_backbone(settings.model, settings.width), settings.mask_ratio)
        self.optimizer = build_optimizer(self.model, self.lr, settings.weight_decay)
        self._wrapped, self._stepper = fabric.setup(self.model, self.optimizer)
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self._loss_device)
        if checkpoint is not None:
            self._restore(checkpoint)
        steps = self.batches.steps * settings.epochs
        self.screen = Screen(options.verbose and fabric.is_global_zero, steps, self.progress.step)
        self.stop = StopRequest(self.screen)
        self.pictures: list[Path] = []
        self._samples: Tensor | None = None

    @property
    def _loss_device(self) -> torch.device:
        device: torch.device = self.fabric.device
        return torch.device("cpu") if device.type == "mps" else device  # mps has no float64

    @property
    def identity(self) -> dict[str, object]:
        """What must be the same when the run is resumed."""
        return {
            "images": len(self.images.paths),
            "digest": self.images.digest,
            "processes": self.fabric.world_size,
        }

    def fit(self) -> Outcome:
        """Train until all epochs are done, ``max_steps`` is reached or the user stops it.

        Raises:
            KeyboardInterrupt: After Ctrl-C, once the checkpoint is written.
            DetgraftError: If the loss becomes infinite or not a number.
        """
        if self._remaining_steps() <= 0:
            return Outcome(self.progress.epoch >= self.settings.epochs, [])
        devices = [self.fabric.device] if self.fabric.device.type == "cuda" else []
        writer = self._tensorboard()
        try:
            with torch.random.fork_rng(devices=devices), self.screen, self.stop.listening():
                self._describe()
                loader = self._loader()
                while self.progress.epoch < self.settings.epochs:
                    if not self._epoch(loader):
                        return Outcome(False, self.pictures)
                    self._finish_epoch(writer)
                    if self._must_stop() and self.progress.epoch < self.settings.epochs:
                        return Outcome(False, self.pictures)
        finally:
            if writer is not None:
                writer.close()
        return Outcome(True, self.pictures)

    def _remaining_steps(self) -> int:
        total = self.batches.steps * self.settings.epochs
        limit = total if self.options.max_steps is None else min(total, self.options.max_steps)
        return limit - self.progress.step

    def _loader(self) -> DataLoader[Any]:
        workers = self.options.worker_count(self._processes_here())
        views = Views(self.images.paths, self.settings.imgsz, self.settings.mask_ratio, self.settings.seed)
        return DataLoader(
            views,
            batch_sampler=self.batches,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=self.fabric.device.type == "cuda",
            persistent_workers=workers > 0,
            worker_init_fn=_ignore_interrupts,
            generator=torch.Generator().manual_seed(0),
        )

    def _processes_here(self) -> int:
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.fabric.world_size))

    def _epoch(self, loader: DataLoader[Any]) -> bool:
        """Train to the end of the current epoch; return False when it was left early (the state is saved)."""
        progress, accumulate = self.progress, self.settings.accumulate
        self._wrapped.train()
        self.batches.start_at(progress.epoch, progress.batch)
        started = time.monotonic()
        for batch in loader:
            self._forward_backward(batch)
            progress.batch += 1
            if progress.batch % accumulate:
                continue
            self._stepper.step()
            self._stepper.zero_grad()
            progress.step += 1
            now = time.monotonic()
            progress.seconds, started = progress.seconds + now - started, now
            looking = progress.step % _LOOK_EVERY == 0
            mean = self._mean_so_far() if looking else None
            self.screen.step(progress.step, progress.epoch, self.settings.epochs, mean)
            if progress.batch < len(self.batches) and self._must_stop():
                self._save()
                self._raise_if_interrupted()
                return False
        return True

    def _forward_backward(self, batch: Batch) -> None:
        progress, settings = self.progress, self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(progress.step, self.batches.steps, settings.epochs, self.lr)
        progress.broken.update(batch.broken)
        # Only a backbone with dropout draws from the global generator; reseeding keeps that resumable as well.
        torch.manual_seed(derive_seed(settings.seed, "step", progress.epoch, progress.batch, self.fabric.global_rank))
        pictures = self.fabric.to_device(batch.pictures)
        masks = self.fabric.to_device(batch.masks)
        last = (progress.batch + 1) % settings.accumulate == 0
        with self.fabric.no_backward_sync(self._wrapped, enabled=not last):
            loss = self._wrapped(prepare(pictures, settings.normalize), masks)
            self.fabric.backward(loss / settings.accumulate)
        self._loss_sum += loss.detach().to(self._loss_sum)

    def _mean_so_far(self) -> float:
        """Return this process's mean loss of the epoch so far.

        Raises:
            DetgraftError: If it is no finite number.
        """
        mean = float(self._loss_sum) / max(1, self.progress.batch)
        if not math.isfinite(mean):
            raise DetgraftError(
                f"the loss became {mean} in epoch {self.progress.epoch + 1}, step {self.progress.step}, with "
                f"lr={self.lr:.3g}; use a smaller lr, or precision=fp32. The last checkpoint is intact"
            )
        return mean

    def _must_stop(self) -> bool:
        """Return whether any process was asked to stop, or the step limit is reached."""
        if self.options.max_steps is not None and self.progress.step >= self.options.max_steps:
            return True
        wish = self.stop.signal or 0
        if self.fabric.world_size > 1:
            shared = torch.tensor(wish, device=self.fabric.device)
            dist.all_reduce(shared, op=dist.ReduceOp.MAX)
            self.stop.signal = int(shared) or None
        return self.stop.signal is not None

    def _raise_if_interrupted(self) -> None:
        if self.stop.signal is not None:
            self.screen.say(f"saved in {self.save_dir}; continue with resume=True")
            raise self.stop.exception()

    def _finish_epoch(self, writer: Any) -> None:
        progress, settings = self.progress, self.settings
        mean = torch.tensor(self._mean_so_far(), dtype=torch.float64, device=self._loss_device)
        if self.fabric.world_size > 1:
            dist.all_reduce(mean, op=dist.ReduceOp.SUM)
            mean /= self.fabric.world_size
        self._share_broken()
        rate = self.optimizer.param_groups[0]["lr"]
        progress.epoch, progress.batch = progress.epoch + 1, 0
        self._loss_sum.zero_()
        entry = {
            "epoch": float(progress.epoch), "step": float(progress.step), "loss": float(mean), "lr": float(rate),
            "seconds": progress.seconds,
        }  # fmt: skip
        progress.history.append(entry)
        last = progress.epoch >= settings.epochs
        stopping = self._must_stop()
        if self.fabric.is_global_zero:
            self.screen.epoch(entry, settings.epochs)
            every = self.options.picture_epochs(settings.epochs)
            if every and (progress.epoch % every == 0 or last):
                self._draw(writer)
            if writer is not None:
                writer.add_scalar("pretrain/loss", entry["loss"], progress.epoch)
                writer.add_scalar("pretrain/lr", entry["lr"], progress.epoch)
        if last or stopping or progress.epoch % self.options.save_every == 0:
            self._save()
        if not last:
            self._raise_if_interrupted()

    def _share_broken(self) -> None:
        if self.fabric.world_size > 1:
            gathered: list[Any] = [None] * self.fabric.world_size
            dist.all_gather_object(gathered, self.progress.broken)
            for found in gathered:
                self.progress.broken.update(found)

    def _save(self) -> None:
        """Write checkpoint, weights, tables and list of broken images (first process only)."""
        mean = self._mean_so_far()
        if self.fabric.is_global_zero:
            self.progress.loss_sum = float(self._loss_sum)
            save_checkpoint(
                self.save_dir / LAST,
                settings=self.settings,
                progress=self.progress,
                identity=self.identity,
                model=self.model,
                optimizer=self.optimizer,
                scaler=None if self.scaler is None else self.scaler.state_dict(),
            )
            export_encoder(
                self.save_dir / WEIGHTS,
                self.model.encoder.backbone,
                self.settings,
                self.progress,
                len(self.images.paths),
            )
            save_losses(self.save_dir / "losses.csv", self.progress.history)
            if self.progress.history:
                save_curve(self.save_dir / "losses.png", self.progress.history, self.settings.model)
            self._save_broken()
            self.screen.step(self.progress.step, self.progress.epoch, self.settings.epochs, mean)
        self.fabric.barrier()

    def _save_broken(self) -> None:
        if self.progress.broken:
            lines = "".join(f"{path}\t{reason}\n" for path, reason in sorted(self.progress.broken.items()))
            write_atomically(self.save_dir / "broken.txt", lambda part: _write_text(part, lines))

    def _restore(self, checkpoint: dict[str, Any]) -> None:
        stored, identity = checkpoint["identity"], self.identity
        if stored["digest"] != identity["digest"]:
            raise DataError(
                f"the images in '{self.images.source}' are not those that the run began with "
                f"({stored['images']} images then, {identity['images']} now); start a new run"
            )
        if stored["processes"] != identity["processes"]:
            raise ArgumentError(
                f"the run began with {stored['processes']} process(es) and can only continue with as many; "
                f"found {identity['processes']}"
            )
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        if self.scaler is not None and checkpoint["scaler"] is not None:
            self.scaler.load_state_dict(checkpoint["scaler"])
        self.progress = Progress(**checkpoint["progress"])
        self._loss_sum.fill_(self.progress.loss_sum)

    def _draw(self, writer: Any) -> None:
        if self._samples is None:
            self._samples = sample_images(self.images.paths, self.settings.imgsz)
        masks = fixed_masks(len(self._samples), self.settings.imgsz, self.settings.mask_ratio, self.settings.seed)
        device = self.fabric.device
        pictures, masks = self._samples.to(device), masks.to(device)
        self.model.eval()
        with self.fabric.autocast():
            result = reconstruct(self.model, prepare(pictures, self.settings.normalize), masks)
        self.model.train()
        path = self.save_dir / "pictures" / f"epoch_{self.progress.epoch:04d}.png"
        original = prepare(pictures, "none")
        sheet = save_picture(path, original, masks, restore_pixels(result.float(), self.settings.normalize))
        self.pictures.append(path)
        if writer is not None:
            import numpy as np

            writer.add_image("pretrain/reconstruction", np.asarray(sheet), self.progress.epoch, dataformats="HWC")

    def _tensorboard(self) -> Any:
        if not (self.options.tensorboard and self.fabric.is_global_zero):
            return None
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "pretrain") from error
        return SummaryWriter(str(self.save_dir / "tensorboard"), purge_step=self.progress.epoch + 1)  # type: ignore[no-untyped-call]

    def _describe(self) -> None:
        settings = self.settings
        parameters = sum(p.numel() for p in self.model.encoder.parameters())
        left = self._remaining_steps()
        self.screen.say(
            f"FCMAE: {settings.model} ({parameters:,} parameters) on {len(self.images.paths)} images of "
            f"'{self.images.source}', {settings.epochs} epochs of {self.batches.steps} steps, "
            f"{self.effective_batch} images a step, peak lr {self.lr:.3g}, device {self.fabric.device}"
            + (f" x {self.fabric.world_size}" if self.fabric.world_size > 1 else "")
        )
        if self.progress.step:
            self.screen.say(
                f"resuming at epoch {self.progress.epoch + 1}, step {self.progress.step} "
                f"({left} steps left, {as_duration(self.progress.seconds)} spent)"
            )


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


def _ignore_interrupts(_worker: int) -> None:
    """Let Ctrl-C reach the training process only; it ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
