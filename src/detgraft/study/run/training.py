"""Trains one cell with detgraft.YOLO and publishes a state after every epoch.

What this room needs from Ultralytics comes through callbacks and documented arguments of its public classes, so that
nothing here imports it.
"""

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
    from detgraft.weights.transfer import TransferReport


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
    """Ultralytics callbacks that keep the learning curve and publish states.

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

    def attach(self, model: Any) -> None:
        """Hang the callbacks onto an Ultralytics model."""
        model.add_callback("on_train_start", self.note_transfer)
        model.add_callback("on_train_epoch_start", self.refuse_other_batch)
        model.add_callback("on_model_save", self.publish)

    def note_transfer(self, trainer: Any) -> None:
        """Note what share of the model that is now trained, with the data's own classes, came from a checkpoint."""
        if self.weights is not None and not self.resumed_at:
            self.transferred = transferred(trainer.model, self.weights).share

    def refuse_other_batch(self, trainer: Any) -> None:
        """Stop when Ultralytics has answered a full GPU by halving the batch, which no other arm would get."""
        if int(trainer.batch_size) != self.batch:
            raise GpuMemoryError(
                f"The GPU has too little memory for this run: Ultralytics wanted to go on with batch"
                f" {trainer.batch_size} instead of {self.batch}, which would be unfair to the other arms;"
                " lower batch or imgsz for the whole study."
            )

    def publish(self, trainer: Any) -> None:
        """After ``last.pt`` and ``best.pt`` are written: publish them with the curve up to here."""
        epoch = int(trainer.epoch)
        seconds = self._earlier + time.monotonic() - self._start
        losses = trainer.label_loss_items(trainer.tloss, prefix="train")
        entry = {"epoch": epoch, "seconds": round(seconds, 3), "fitness": _number(trainer.fitness)}
        entry |= {str(key): _number(value) for key, value in {**losses, **trainer.metrics}.items()}
        self.curve = [row for row in self.curve if row["epoch"] < epoch] + [entry]
        if trainer.best_fitness == trainer.fitness:
            self.best_epoch = epoch
        info = {
            "curve": self.curve,
            "best_epoch": self.best_epoch,
            "seconds": seconds,
            "resumed_at": self.resumed_at,
            "transferred": self.transferred,
            "save_dir": str(trainer.save_dir),
        }
        self.book.publish(Path(trainer.last), Path(trainer.best), epoch, bool(trainer.stop), info)
        progress = {"epoch": epoch + 1, "epochs": int(trainer.epochs), "seconds": seconds}
        write_json(self.folder / "progress.json", progress)


def train(config: CellConfig, folder: Path, book: Checkpoints) -> Path:
    """Train with Ultralytics; see :class:`Trainer`."""
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
        weights = run / "weights"
        weights.mkdir(parents=True, exist_ok=True)
        copy_atomic(state.last, weights / "last.pt")
        copy_atomic(state.best, weights / "best.pt")
        model = _open(config, str(weights / "last.pt"))
    recorder.attach(model)
    model.train(
        **{"plots": False, "workers": 2, **config.train},
        data=config.data,
        seed=config.seed,
        device=device_name(),
        project=str(folder),
        name="train",
        exist_ok=True,
        save=True,
        val=True,
        resume=state is not None,
    )
    return run / "weights" / "best.pt"  # the same weights as the published ones, without the optimiser


def new_model(config: CellConfig) -> Any:
    """Build an arm's ``detgraft.YOLO`` with its initial weights.

    Args:
        config: Any run of the arm.

    Raises:
        WeightsError: Less than the study's ``transfer_min`` arrived.
    """
    from detgraft.upstream.model.marks import is_grafted

    model = _open(config, config.model)
    if config.weights is not None and is_grafted(model.model):
        model.transfer(config.weights, config.transfer_min)
    elif config.weights is not None:
        model.load(config.weights)  # a stock model takes its own checkpoint the stock way
        transferred(model.model, config.weights).require(config.transfer_min)
    return model


def transferred(model: Any, weights: str) -> TransferReport:
    """What a model received from a checkpoint.

    Args:
        model: The Ultralytics model object, loaded.
        weights: The checkpoint.
    """
    from detgraft.upstream.model.models import YOLO
    from detgraft.upstream.model.transfer import report_of
    from detgraft.weights.transfer import make_report

    report = report_of(model)
    if report is not None:
        return report
    source = YOLO(weights).model.state_dict()
    layers = {index: index for index in range(len(model.model))}
    return make_report(weights, source, model.state_dict(), layers, lambda i: str(model.model[i].type), len(layers))


def _open(config: CellConfig, model: str) -> Any:
    from detgraft.upstream.model.models import YOLO

    return YOLO(model, **_plugins(config))


def _plugins(config: CellConfig) -> dict[str, Any]:
    return {"plugins": list(config.plugins)} if config.plugins else {}


def device_name() -> str:
    """``0`` for the GPU that the executor has made visible, ``cpu`` without one."""
    import torch

    return "0" if torch.cuda.is_available() else "cpu"


def _seed_everything(seed: int) -> None:
    """Seed what is drawn before Ultralytics seeds by itself: the new parts of a model whose other weights are given."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _number(value: Any) -> float | None:
    return None if value is None else round(float(value), 8)
