"""Check 1: does every layer return the channels and strides that it declares, at every size and for every batch?"""

from __future__ import annotations

from typing import Any

import torch

from detgraft.errors import DetgraftError
from detgraft.measure.watch import (
    LayerError,
    copied,
    main_output,
    passes_by_layer,
    relative_drift,
    tensors_in,
    watching,
)
from detgraft.upstream.describe import layers
from detgraft.upstream.service.models import has_anchors, is_rtdetr, stated_strides
from detgraft.verify.parity import compare
from detgraft.verify.result import CheckResult, verdict
from detgraft.verify.subject import Subject, form_of

NAME = "shapes"
BATCH_TOLERANCE = 1e-4
"""Relative. A batch is computed in another order than a single picture, which moves float32 results by about 1e-6."""


def check(subject: Subject) -> CheckResult:
    """Compare declared with real shapes, sweep image sizes, and compare a batch with its single pictures."""
    figures: dict[str, Any] = {}
    problems = _declared(subject, figures)
    if subject.model is None:
        return verdict(NAME, problems or [subject.failure], figures)
    if not problems:
        model = subject.woken()
        problems += _sweep(subject, model, figures)
        problems += _batch(subject, model)
    return verdict(NAME, problems, figures)


def _declared(subject: Subject, figures: dict[str, Any]) -> list[str]:
    if subject.plan is None:
        return []
    height, width = subject.imgsz
    subject.say("layer by layer on the meta device")
    problems, count = [], 0
    strides: dict[int, float] = {}
    try:
        for run in layers.run_on_meta(subject.mapping, subject.channels, height, width):
            count += 1
            problem = run.problem() or _selector_stride(run.layer, run.outputs, height)
            if problem:
                problems.append(f"{subject.layer(run.index)} {problem}")
            if len(run.outputs) == 1 and len(run.outputs[0]) == 4:
                strides[run.index] = height / run.outputs[0][2]
    except DetgraftError as error:
        problems.append(str(error))
    figures["layers"] = count
    if subject.model is not None and not problems:
        problems += _head_strides(subject, strides)
    return problems


def _selector_stride(layer: Any, outputs: layers.Sizes, height: int) -> str:
    """A backbone's selector declares its stride; compare it with what comes out."""
    declared = getattr(layer, "stride", None)
    if type(layer).__name__ != "FeatureSelect" or not outputs or not isinstance(declared, int):
        return ""
    found = height / outputs[0][2]
    if layer.position == 0 and found > declared:
        return ""  # the backbone lacks this stride; its slot repeats the next feature and nothing may read it
    return "" if found == declared else f"declares stride {declared} and has stride {found:g}"


def _head_strides(subject: Subject, strides: dict[int, float]) -> list[str]:
    """The strides that the head works with against those of the features that it is given."""
    problems = []
    for index, stated in stated_strides(subject.model):
        found = strides.get(index)
        if found is not None and abs(found - stated) > 0.01 * found:
            problems.append(f"{subject.layer(index)} has stride {found:g}; the head counts with {stated:g}")
    return problems


def _sizes(subject: Subject) -> dict[str, tuple[int, int]]:
    """The sizes of the sweep, rounded up to the model's stride."""
    stride = subject.stride
    smallest = 128 if is_rtdetr(subject.model) else stride
    wanted = {
        "square": subject.imgsz,
        "352x640": (352, 640),
        "320x416": (320, 416),
        "smallest": (smallest, smallest),
        "dynamic": (2 * smallest, 3 * smallest),
    }
    limit = max(subject.imgsz)
    sizes = {}
    for name, (height, width) in wanted.items():
        scale = min(1.0, limit / max(height, width)) if name in ("352x640", "320x416") else 1.0
        sizes[name] = tuple(max(smallest, -(-int(v * scale) // stride) * stride) for v in (height, width))
    return sizes  # type: ignore[return-value]


def _sweep(subject: Subject, model: Any, figures: dict[str, Any]) -> list[str]:
    """Run one model at changing sizes; every answer must be finite and cover the whole picture."""
    problems = []
    tried = {}
    strides = [stride for _, stride in stated_strides(model)] if has_anchors(model) else []
    for name, (height, width) in _sizes(subject).items():
        subject.say(f"forward pass at {height}x{width}")
        bad: list[int] = []

        def look(index: int, output: Any, bad: list[int] = bad) -> None:
            if not all(bool(torch.isfinite(t).all()) for t in tensors_in(output) if t.dtype.is_floating_point):
                bad.append(index)

        try:
            with watching(model, leave=look):
                answer = main_output(model, subject.pictures(1, height, width))
        except LayerError as error:
            problems.append(f"{subject.layer(error.index)} fails at {height}x{width} ({name}): {error.text}")
            continue
        tried[name] = f"{height}x{width}"
        if bad:
            problems.append(f"{subject.layer(bad[0])} returns values that are not finite at {height}x{width} ({name})")
        if strides and answer.ndim == 3:
            cells = sum(-(-height // int(s)) * -(-width // int(s)) for s in strides)
            if answer.shape[-1] != cells:
                problems.append(f"the answer at {height}x{width} has {answer.shape[-1]} anchors, expected {cells}")
    figures["sizes"] = tried
    return problems


def _batch(subject: Subject, model: Any) -> list[str]:
    """In evaluation mode the answer for a picture must not depend on the other pictures of its batch."""
    subject.say("a batch against its single pictures")
    size = max(subject.stride, min(96, subject.small)) if not is_rtdetr(model) else 128
    size = -(-size // subject.stride) * subject.stride
    pictures = subject.pictures(3, size, size)
    pictures[1] *= 4  # a batch statistic that hides behind equal pictures would not be seen
    try:
        together = passes_by_layer(model, pictures)
        answers = main_output(model, pictures), main_output(model, pictures[:1])
        for index, layer in enumerate(list(model.model)[:-1]):
            # Every layer by itself with what it was given, so that no rounding error grows on its way.
            with torch.no_grad():
                alone = list(tensors_in(layer(copied(together[index].given, lambda t: t[:1].clone()))))
            first = [t[:1] for t in tensors_in(together[index].returned)]
            worst = max((relative_drift(a, b) for a, b in zip(alone, first, strict=True)), default=0.0)
            if worst > BATCH_TOLERANCE:
                return [
                    f"{subject.layer(index)} answers differently for a picture when others are in its batch "
                    f"(by {worst:.2g} of its magnitude)"
                ]
    except LayerError as error:
        return [f"{subject.layer(error.index)} fails on a batch of 3: {error.text}"]
    drift = compare([answers[1]], [answers[0][:1]], size, form_of(model))
    head = len(model.model) - 1
    return [] if drift.fine else [f"{subject.layer(head)} answers differently in a batch: {drift}"]
