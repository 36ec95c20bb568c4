"""Trains one cell and publishes a state after every epoch; Ultralytics itself is met in ``upstream/service/`` only."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from detgraft.base.files import copy_atomic, write_json
from detgraft.study.design.config import CellConfig
from detgraft.study.run.checkpoints import Checkpoints, TrainingState
from detgraft.study.run.failures import GpuMemoryError

if TYPE_CHECKING:
    from detgraft.upstream.service.training import Epoch, Start


class Trainer(Protocol):
    """What a cell needs in order to train; tests put something quicker in its place."""

    def __call__(self, config: CellConfig, folder: Path, book: Checkpoints) -> Path:
        """Train until the newest state in ``book`` is finished.

        Args:
            config: The run.
            folder: The cell's folder.
            book: Its published states; an unfinished one is taken up again.

        Returns:
            The best weights.
        """


class Recorder:
    """Keeps the learning curve of a training and publishes its states.

    Args:
        folder: The cell's folder.
        book: Where states are published.
        state: The state that training goes on from, None at the start.
        batch: Batch size that every arm must keep.
        weights: The checkpoint that training starts from, None from scratch.
    """

    def __init__(
        self, folder: Path, book: Checkpoints, state: TrainingState | None, batch: int, weights: str | None = None
    ) -> None:
        info = dict(state.info) if state else {}
        self.folder, self.book, self.batch, self.weights = folder, book, batch, weights
        self.curve: list[dict[str, Any]] = list(info.get("curve", []))
        self.best_epoch: int = int(info.get("best_epoch", 0))
        self.resumed_at: list[int] = list(info.get("resumed_at", []))
        self.transferred: float | None = info.get("transferred")
        if state is not None:
            self.resumed_at.append(state.epoch + 1)
        self._earlier: float = float(info.get("seconds", 0.0))
        self._start = time.monotonic()

    def note_transfer(self, start: Start) -> None:
        """Note what share of the model that is now trained, with the data's own classes, came from a checkpoint."""
        if self.weights is not None and not self.resumed_at:
            self.transferred = start.received(self.weights).share

    def refuse_other_batch(self, batch: int) -> None:
        """Stop when Ultralytics has answered a full GPU by halving the batch, which no other arm would get."""
        if batch != self.batch:
            raise GpuMemoryError(
                "The GPU has too little memory for this run: Ultralytics wanted to go on with batch"
                f" {batch} instead of {self.batch}, which would be unfair to the other arms;"
                " lower batch or imgsz for the whole study."
            )

    def publish(self, epoch: Epoch) -> None:
        """After ``last.pt`` and ``best.pt`` are written: publish them with the curve up to here."""
        seconds = self._earlier + time.monotonic() - self._start
        entry = {"epoch": epoch.number, "seconds": round(seconds, 3), "fitness": epoch.fitness, **epoch.figures}
        self.curve = [row for row in self.curve if row["epoch"] < epoch.number] + [entry]
        if epoch.is_best:
            self.best_epoch = epoch.number
        info = {
            "curve": self.curve,
            "best_epoch": self.best_epoch,
            "seconds": seconds,
            "resumed_at": self.resumed_at,
            "transferred": self.transferred,
            "save_dir": str(epoch.folder),
        }
        self.book.publish(epoch.last, epoch.best, epoch.number, epoch.is_last, info)
        progress = {"epoch": epoch.number + 1, "epochs": epoch.epochs, "seconds": seconds}
        write_json(self.folder / "progress.json", progress)


def train(config: CellConfig, folder: Path, book: Checkpoints) -> Path:
    """Train with Ultralytics; see :class:`Trainer`."""
    from detgraft.upstream.service import training

    state = book.newest()
    if state is not None and state.finished:
        # Killed after the last epoch, perhaps while Ultralytics was rewriting its own best.pt.
        return state.best
    run = folder / "train"
    if state is not None and state.info.get("save_dir") != str(run):
        # Ultralytics would go on writing into the folder that the study was moved away from.
        book.remove()
        state = None
    recorder = Recorder(folder, book, state, int(config.train["batch"]), config.weights)
    if state is None:
        shutil.rmtree(run, ignore_errors=True)
        _seed_everything(config.seed)
        model = new_model(config)
    else:
        # Ultralytics reads the state again from here, and best.pt may be half written there.
        weights = training.weights_of(run)
        weights.mkdir(parents=True, exist_ok=True)
        copy_atomic(state.last, weights / "last.pt")
        copy_atomic(state.best, weights / "best.pt")
        model = training.open_trainable(str(weights / "last.pt"), config.plugins)
    return training.train(
        model, recorder, config.train, data=config.data, seed=config.seed, folder=run, resume=state is not None
    )


def new_model(config: CellConfig) -> Any:
    """Build an arm's model with its initial weights.

    Args:
        config: Any run of the arm.

    Raises:
        WeightsError: Less than the study's ``transfer_min`` arrived.
    """
    from detgraft.upstream.service import training

    model = training.open_trainable(config.model, config.plugins)
    if config.weights is not None:
        training.start_from(model, config.weights, config.transfer_min)
    return model


def _seed_everything(seed: int) -> None:
    """Seed what is drawn before Ultralytics seeds by itself: the new parts of a model whose other weights are given."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
