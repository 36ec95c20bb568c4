"""The training loop of one process.

A run can be stopped at any moment (Ctrl-C, a kill, a power cut) and continued from its last checkpoint with the same
losses as if it had never stopped: order, views and masks are functions of (seed, epoch, place), the learning rate of
the step, and the checkpoint holds the rest. On a CPU the continuation is equal bit for bit.
"""

from __future__ import annotations

import math
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader

from detgraft.base.extras import missing
from detgraft.base.files import write_atomic
from detgraft.errors import ArgumentError, DetgraftError
from detgraft.pretraining.backbones import build_backbone
from detgraft.pretraining.checkpoint import LAST, WEIGHTS, Progress, export_encoder, save_checkpoint
from detgraft.pretraining.devices import Fabric, StopRequest
from detgraft.pretraining.fcmae import FCMAE
from detgraft.pretraining.images import ImageList, derive_seed
from detgraft.pretraining.optim import build_optimizer, default_lr, learning_rate
from detgraft.pretraining.report import (
    Screen,
    as_duration,
    fixed_masks,
    reconstruct,
    sample_images,
    save_curve,
    save_losses,
    save_picture,
)
from detgraft.pretraining.settings import Options, Settings
from detgraft.pretraining.views import Batch, EpochBatches, Views, collate, prepare, restore_pixels

# Optimizer steps between looks at the loss and, with several processes, at whether one was asked to stop: each look
# makes a GPU, or all of them, wait.
_LOOK_EVERY = 20


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
        contents: Hash of what the images hold, see `detgraft.pretraining.contents`.
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
        contents: str | None = None,
    ) -> None:
        self.contents = contents
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
        self.stop = StopRequest(self.screen.say)
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
            "contents": self.contents,
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
        devices = [self.fabric.device.index] if self.fabric.device.type == "cuda" else []
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
            worker_init_fn=_own_signals,
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
            if progress.batch < len(self.batches) and self._must_stop(exchange=looking):
                self._save(final=True)
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

    def _must_stop(self, *, exchange: bool = True) -> bool:
        """Return whether any process was asked to stop, or the step limit is reached.

        Args:
            exchange: Ask the other processes, all of which must ask at this step; otherwise none of several stops for
                a signal, since the others would wait for it.
        """
        if self.options.max_steps is not None and self.progress.step >= self.options.max_steps:
            return True
        if self.fabric.world_size > 1:
            if not exchange:
                return False
            wish = self.stop.signal or 0
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
        own_mean = torch.tensor(self._mean_so_far(), dtype=torch.float64, device=self._loss_device)
        mean = self._mean_over_processes(own_mean)
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
            self._save(final=last or stopping)
        if not last:
            self._raise_if_interrupted()

    def _mean_over_processes(self, value: Tensor) -> Tensor:
        if self.fabric.world_size > 1:
            dist.all_reduce(value, op=dist.ReduceOp.SUM)
            value /= self.fabric.world_size
        return value

    def _share_broken(self) -> None:
        if self.fabric.world_size > 1:
            gathered: list[Any] = [None] * self.fabric.world_size
            dist.all_gather_object(gathered, self.progress.broken)
            for found in gathered:
                self.progress.broken.update(found)

    def _save(self, *, final: bool) -> None:
        """Write checkpoint, weights, tables and list of broken images; the curve when this call of fit ends."""
        self._mean_so_far()  # raises rather than save a broken model
        loss_sum = float(self._mean_over_processes(self._loss_sum.clone()))
        if self.fabric.is_global_zero:
            self.progress.loss_sum = loss_sum
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
            if final and self.progress.history:
                save_curve(self.save_dir / "losses.png", self.progress.history, self.settings.model)
            self._save_broken()
        self.fabric.barrier()

    def _save_broken(self) -> None:
        if self.progress.broken:
            lines = "".join(f"{path}\t{reason}\n" for path, reason in sorted(self.progress.broken.items()))
            write_atomic(self.save_dir / "broken.txt", lines)

    def _restore(self, checkpoint: dict[str, Any]) -> None:
        stored, identity = checkpoint["identity"], self.identity
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
            raise missing("tensorboard", "pretrain") from error
        return SummaryWriter(str(self.save_dir / "tensorboard"), purge_step=self.progress.epoch + 1)

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
        if self.images.held_out:
            names = ", ".join(f"'{name}'" for name in self.images.held_out)
            self.screen.say(
                f"note: images below {names} are used, too; give the data YAML to use the training images only"
            )
        if self.progress.step:
            self.screen.say(
                f"resuming at epoch {self.progress.epoch + 1}, step {self.progress.step} "
                f"({left} steps left, {as_duration(self.progress.seconds)} spent)"
            )


def _own_signals(_worker: int) -> None:
    """Let Ctrl-C reach the training process only, and let that process end its readers as usual."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
