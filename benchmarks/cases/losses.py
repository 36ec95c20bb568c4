"""What a formula costs: the loss and its gradient alone, and a training step, each against the stock loss.

The loss is a twelfth of a step, so what a formula adds to the step vanishes in the step's own scatter; the row of the
loss alone, over the step's time, says it more exactly.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.cases.models import batch_of, training_step
from benchmarks.measure import Case, Work, unchecked
from detgraft.catalog.losses import losses
from detgraft.upstream.model.models import build
from detgraft.upstream.service.losses import with_losses

TARGET = 1 / 1.05
"""A step may take 1.05 of the stock one's time."""

FURTHER = ("wiou(inner=0.75,focaler=(0.0,0.95))", "mpdiou(assigner=True)")


CALLS = 10
"""Losses in one measured piece of work: the processor's clock counts in hundredths of a second."""


def _alone(text: str) -> Mapping[str, Work]:
    torch.manual_seed(0)
    model: Any = build("yolo11n")
    batch = batch_of(model, pictures=8, size=320)
    model.train()
    predictions = _leaves(model.predict(batch["img"]))
    other = copy.deepcopy(model)
    return {
        "ours": unchecked(_losses_of(with_losses(model, [text]), batch, predictions)),
        "stock loss": unchecked(_losses_of(other, batch, predictions)),
    }


def _losses_of(model: Any, batch: dict[str, torch.Tensor], predictions: Any) -> Callable[[], None]:
    def work() -> None:
        for _ in range(CALLS):
            torch.autograd.backward(model.loss(batch, predictions)[0].sum())

    return work


def _leaves(predictions: Any) -> Any:
    """Return the same predictions without the network behind them; a loss's gradient ends there."""
    if isinstance(predictions, torch.Tensor):
        return predictions.detach().requires_grad_()
    if isinstance(predictions, Mapping):
        return {key: _leaves(value) for key, value in predictions.items()}
    return type(predictions)(map(_leaves, predictions))


def _step(text: str) -> Mapping[str, Work]:
    torch.manual_seed(0)
    model: Any = build("yolo11n")
    other = copy.deepcopy(model)
    return {
        "ours": unchecked(training_step(with_losses(model, [text]))),
        "stock loss": unchecked(training_step(other)),
    }


def cases() -> list[Case]:
    """Two cases for each loss."""
    texts = (*(entry.name for entry in losses), *FURTHER)
    alone = [
        Case(
            f"losses/alone/{text}, {CALLS} losses and gradients", functools.partial(_alone, text), rounds=9, seconds=15
        )
        for text in texts
    ]
    steps = [
        Case(
            f"losses/step/{text}, yolo11n batch 8 at 320",
            functools.partial(_step, text),
            targets={"stock loss": TARGET},
            rounds=7,
            seconds=15,
        )
        for text in texts
    ]
    return alone + steps
