"""A training step with each loss against one with the stock loss: what a formula costs beside a model."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.cases.models import training_step
from benchmarks.measure import Case, Work, unchecked
from detgraft.catalog.losses import losses
from detgraft.upstream.model.models import build
from detgraft.upstream.service.losses import with_losses

TARGET = 1 / 1.05
"""A step may take 1.05 of the stock one's time."""

FURTHER = ("wiou(inner=0.75,focaler=(0.0,0.95))", "mpdiou(assigner=True)")


def _step(text: str) -> Mapping[str, Work]:
    torch.manual_seed(0)
    model: Any = build("yolo11n")
    other = copy.deepcopy(model)
    return {
        "ours": unchecked(training_step(with_losses(model, [text]))),
        "stock loss": unchecked(training_step(other)),
    }


def cases() -> list[Case]:
    """One case for each loss."""
    return [
        Case(
            f"losses/{text}/yolo11n batch 8 at 320, training step",
            functools.partial(_step, text),
            targets={"stock loss": TARGET},
            rounds=7,
            seconds=15,
        )
        for text in (*(entry.name for entry in losses), *FURTHER)
    ]
