"""Whole models: the memory layout that detgraft chooses, the one that pictures come in, and ``torch.compile``."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import torch

from benchmarks.cases.models import channels_last, compiled, training_step
from benchmarks.measure import Case, Work, unchecked, within, without_gradients
from detgraft.upstream.model.models import build

GRAFTS = ("carafe", "dynamicconv", "c3k2_dynamicconv", "convnextv2_atto", "repvit_m0_9")
COMPILED = ("carafe", "convnextv2_atto")  # a minute or two for each form


@contextlib.contextmanager
def layout_as_given() -> Iterator[None]:
    """Switch the choice of layout off."""
    with contextlib.ExitStack() as stack:
        for module in ("kernels.layout", "blocks.timm_backbone"):
            stack.enter_context(mock.patch(f"detgraft.{module}.prefers_channels_last", return_value=False))
        yield


def _training(graft: str) -> Mapping[str, Work]:
    torch.manual_seed(0)
    model = build(f"yolo11n+{graft}")
    other = copy.deepcopy(model)
    return {"ours": training_step(model), "layout as given": within(layout_as_given, training_step(other))}


def _inference(graft: str, batch: int, size: int) -> Mapping[str, Work]:
    torch.manual_seed(0)
    model: Any = build(f"yolo11n+{graft}").eval()
    model = model.fuse(verbose=False)
    image = torch.rand(batch, 3, size, size)
    return {
        "ours": without_gradients(lambda: [model(image)[0]]),
        "layout as given": within(layout_as_given, without_gradients(lambda: [model(image)[0]])),
    }


def _compiled(graft: str, train: bool) -> Mapping[str, Work]:
    """A case of its own: switching the choice of layout would make ``torch.compile`` begin anew in every round."""
    torch.manual_seed(0)
    model: Any = build(f"yolo11n+{graft}")
    if train:
        other = copy.deepcopy(model)
        return {
            "ours": training_step(model),
            "torch.compile": training_step(other, compiled(other)),
        }
    model = model.eval().fuse(verbose=False)
    other, image = compiled(copy.deepcopy(model)), torch.rand(1, 3, 640, 640)
    return {
        "ours": without_gradients(lambda: [model(image)[0]]),
        "torch.compile": without_gradients(lambda: [other(image)[0]]),
    }


def _stock_training() -> Mapping[str, Work]:
    """What channels-last would do for the stock model, which detgraft leaves alone."""
    torch.manual_seed(0)
    model = build("yolo11n.yaml")
    given = training_step(copy.deepcopy(model))
    return {"ours": unchecked(training_step(model, channels_last(model))), "layout as given": unchecked(given)}


def cases() -> list[Case]:
    found = [Case("layouts/yolo11n batch 8 at 320/training step", _stock_training, rounds=5, seconds=12)]
    for graft in GRAFTS:
        found += [
            Case(
                f"layouts/yolo11n+{graft} batch 8 at 320/training step",
                functools.partial(_training, graft),
                tolerance=1e-4,
                rounds=5,
                seconds=12,
            ),
            *(
                Case(
                    f"layouts/yolo11n+{graft} batch {batch} at {size}/inference",
                    functools.partial(_inference, graft, batch, size),
                    tolerance=1e-4,
                    rounds=7,
                    seconds=8,
                )
                for batch, size in ((1, 640), (8, 320))
            ),
        ]
    for graft in COMPILED:
        for what, train in (("batch 1 at 640/inference", False), ("batch 8 at 320/training step", True)):
            build_forms = functools.partial(_compiled, graft, train)
            name = f"layouts/compiled yolo11n+{graft} {what}"
            found.append(Case(name, build_forms, tolerance=1e-4, rounds=7, seconds=10, warmups=3))
    return found
