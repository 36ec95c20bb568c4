"""Check 4: does fusing for inference change the answer, what does it leave behind, and what does it gain?"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from detgraft.measure.timing import forward_latency
from detgraft.measure.watch import (
    LayerError,
    Pass,
    copied,
    main_output,
    passes_by_layer,
    relative_drift,
    tensors_in,
    watching,
)
from detgraft.upstream.model.marks import is_stock
from detgraft.upstream.service.models import fused_copy
from detgraft.verify.parity import compare
from detgraft.verify.result import CheckResult, skipped, verdict
from detgraft.verify.subject import Subject, form_of

NAME = "fuse"
TOLERANCE = 1e-4
"""Relative to the largest magnitude of a layer's output."""


def check(subject: Subject) -> CheckResult:
    """Compare every layer before and after ``fuse()``, count batch norms, and time both."""
    if subject.model is None:
        return skipped(NAME, "the model cannot be built")
    subject.say("outputs before and after")
    model = subject.woken()
    size = subject.small
    pictures = subject.pictures(2, size, size)
    before = passes_by_layer(model, pictures)
    try:
        fused = fused_copy(model)
        problems = _differences(subject, model, fused, before, size)
    except LayerError as error:
        return verdict(NAME, [f"{subject.layer(error.index)} fails once fused: {error.text}"], {})
    except Exception as error:  # a graft's own fuse() may raise anything
        return verdict(NAME, [f"fuse() fails: {type(error).__name__}: {str(error)[:300]}{_culprit(subject)}"], {})
    figures: dict[str, Any] = {
        "batch_norms_before": _norms(model),
        "batch_norms_after": _norms(fused),
        "parameters_before": sum(p.numel() for p in model.parameters()),
        "parameters_after": sum(p.numel() for p in fused.parameters()),
    }
    notes = []
    if figures["batch_norms_after"]:
        names = [subject.layer(i) for i, layer in enumerate(fused.model) if _norms(layer)]
        notes.append(f"{figures['batch_norms_after']} batch norms stay, in {', '.join(names)}")
    if not problems:
        subject.say("speed before and after")
        figures["ms_before"], figures["ms_after"] = (forward_latency(m, pictures[:1]).median_ms for m in (model, fused))
        figures["times_faster"] = figures["ms_before"] / figures["ms_after"]
    return verdict(NAME, problems, figures, notes)


def _norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def _differences(subject: Subject, model: Any, fused: Any, before: dict[int, Pass], size: int) -> list[str]:
    """Give every fused layer what the original was given, so that no rounding error grows on its way."""
    head = len(model.model) - 1
    for index, layer in enumerate(list(fused.model)[:-1]):
        with torch.no_grad(), watching(fused):
            after = list(tensors_in(layer(copied(before[index].given))))
        original = list(tensors_in(before[index].returned))
        worst = max((relative_drift(a, b) for a, b in zip(original, after, strict=True)), default=0.0)
        if worst > TOLERANCE:
            return [f"{subject.layer(index)} answers differently once fused (by {worst:.2g} of its magnitude)"]
    answers = [next(tensors_in(before[head].returned)), main_output(fused, subject.pictures(2, size, size))]
    drift = compare(answers[:1], answers[1:], size, form_of(model))
    return [] if drift.fine else [f"{subject.layer(head)} answers differently once fused: {drift}"]


def _culprit(subject: Subject) -> str:
    """Name the layer whose own ``fuse()`` raises, by calling each one alone."""
    for index, layer in enumerate(subject.copy().eval().model):
        for module in layer.modules():
            own = getattr(module, "fuse", None)
            if own is None or is_stock(module):
                continue
            try:
                with torch.no_grad():
                    list(tensors_in(own()))
            except Exception:
                return f", in {subject.layer(index)}"
    return ""
