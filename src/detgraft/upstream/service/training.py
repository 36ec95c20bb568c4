"""A training as a study sees it: opened, begun or taken up again, and told of epoch by epoch.

Ultralytics' trainer, its callbacks and the names of its attributes stay in here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from detgraft.upstream.model.marks import is_grafted
from detgraft.upstream.model.models import YOLO
from detgraft.upstream.model.transfer import report_of
from detgraft.weights.transfer import TransferReport, make_report


@dataclass(frozen=True)
class Start:
    """A training that is about to take its first step.

    Args:
        model: The model that is trained, with the data's own classes.
    """

    model: Any

    def received(self, weights: str) -> TransferReport:
        """Say what the model received from a checkpoint.

        Args:
            weights: The checkpoint that it was filled from.
        """
        return received(self.model, weights)


@dataclass(frozen=True)
class Epoch:
    """A finished epoch whose weights are on disk.

    Args:
        number: Which one, from 0.
        epochs: How many are planned.
        fitness: What Ultralytics ranks epochs by.
        is_best: Whether no epoch so far was better.
        is_last: Whether training ends with it.
        figures: Losses and metrics by Ultralytics' own names.
        last: Weights and optimiser after the epoch.
        best: The best weights so far.
        folder: Where the training writes.
    """

    number: int
    epochs: int
    fitness: float | None
    is_best: bool
    is_last: bool
    figures: Mapping[str, float | None]
    last: Path
    best: Path
    folder: Path


class Watcher(Protocol):
    """Who is told of a training."""

    def note_transfer(self, start: Start) -> None:
        """Called once, before the first step; also when a training is taken up again."""

    def refuse_other_batch(self, batch: int) -> None:
        """Called with the batch size before every epoch; Ultralytics halves it when a GPU is full."""

    def publish(self, epoch: Epoch) -> None:
        """Called after every epoch, once its weights are written."""


def open_trainable(model: str, plugins: Sequence[str] = ()) -> Any:
    """Open what :func:`train` trains.

    Args:
        model: A graft expression, a YAML, or the ``last.pt`` of a training that was broken off.
        plugins: Python files with own blocks.

    Raises:
        DetgraftError: The model cannot be built.
    """
    return YOLO(model, plugins=list(plugins))


def start_from(model: Any, weights: str, minimum: float) -> None:
    """Take a checkpoint's weights over into an opened model, and into the one that is trained.

    Args:
        model: From :func:`open_trainable`, without weights yet.
        weights: The checkpoint.
        minimum: Smallest acceptable share of tensors, 0 to 1.

    Raises:
        WeightsError: Not a checkpoint, or less than ``minimum`` arrived.
    """
    if is_grafted(model.model):
        model.transfer(weights, minimum)
        return
    model.load(weights)  # a stock model takes its own checkpoint the stock way
    received(model.model, weights).require(minimum)


def received(model: Any, weights: str) -> TransferReport:
    """Say what a loaded model received from a checkpoint.

    Args:
        model: The model object.
        weights: The checkpoint.
    """
    report = report_of(model)
    if report is not None:
        return report
    source = YOLO(weights).model.state_dict()
    layers = {index: index for index in range(len(model.model))}
    return make_report(weights, source, model.state_dict(), layers, lambda i: str(model.model[i].type), len(layers))


def train(
    model: Any, watcher: Watcher, settings: Mapping[str, Any], *, data: str, seed: int, folder: Path, resume: bool
) -> Path:
    """Train an opened model.

    Args:
        model: From :func:`open_trainable`.
        watcher: Who is told.
        settings: Ultralytics' training arguments; by default without plots, with two loaders, and on the GPU that is
            visible.
        data: The data YAML, or a name that Ultralytics knows.
        seed: Seed of everything random.
        folder: Where the training writes; what lies there is overwritten.
        resume: Go on from the model's own state.

    Returns:
        The best weights, without the optimiser.
    """
    model.add_callback("on_train_start", lambda trainer: watcher.note_transfer(Start(trainer.model)))
    model.add_callback("on_train_epoch_start", lambda trainer: watcher.refuse_other_batch(int(trainer.batch_size)))
    model.add_callback("on_model_save", lambda trainer: watcher.publish(_epoch_of(trainer)))
    usual = {"plots": False, "workers": 2, "device": device_name(), "val": True}
    model.train(
        **{**usual, **settings},
        data=data,
        seed=seed,
        project=str(folder.parent),
        name=folder.name,
        exist_ok=True,
        save=True,
        resume=resume,
    )
    return weights_of(folder) / "best.pt"


def weights_of(folder: Path) -> Path:
    """Where a training in ``folder`` keeps ``last.pt`` and ``best.pt``."""
    return folder / "weights"


def _epoch_of(trainer: Any) -> Epoch:
    losses = trainer.label_loss_items(trainer.tloss, prefix="train")
    return Epoch(
        number=int(trainer.epoch),
        epochs=int(trainer.epochs),
        fitness=_number(trainer.fitness),
        is_best=bool(trainer.best_fitness == trainer.fitness),
        is_last=bool(trainer.stop),
        figures={str(key): _number(value) for key, value in {**losses, **trainer.metrics}.items()},
        last=Path(trainer.last),
        best=Path(trainer.best),
        folder=Path(trainer.save_dir),
    )


def _number(value: Any) -> float | None:
    return None if value is None else round(float(value), 8)


def device_name() -> str:
    """``0`` for the GPU that is visible, ``cpu`` without one: what Ultralytics takes as ``device=``."""
    return "0" if torch.cuda.is_available() else "cpu"
