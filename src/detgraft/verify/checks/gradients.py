"""Check 2: does every parameter learn, and does training stay finite, in float32 and in half precision?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from detgraft.measure.watch import LayerError, tensors_in, watching, watching_operations
from detgraft.upstream.service.batches import training_batch
from detgraft.upstream.service.losses import loss_of, ready_for_loss
from detgraft.verify.result import CheckResult, skipped, verdict
from detgraft.verify.subject import Subject, preserved_random

NAME = "gradients"
STEPS = 3
HALF_MAX = torch.finfo(torch.float16).max
"""65504; Ultralytics trains in float16 on CUDA, where anything larger becomes infinite."""


def check(subject: Subject) -> CheckResult:
    """One backward pass, then three optimiser steps in float32 and under autocast."""
    if subject.model is None:
        return skipped(NAME, "the model cannot be built")
    figures: dict[str, Any] = {"imgsz": subject.small, "steps": STEPS}
    with preserved_random():
        torch.manual_seed(0)
        problems = _every_parameter(subject, figures)
        problems += _half_range(subject, figures)
        if not problems:
            for name, device, dtype in _precisions():
                subject.say(f"{STEPS} optimiser steps in {name}")
                problems += _steps(subject, name, device, dtype, figures)
    return verdict(NAME, problems, figures)


def _precisions() -> list[tuple[str, str, torch.dtype | None]]:
    found: list[tuple[str, str, torch.dtype | None]] = [("fp32", "cpu", None), ("bf16 autocast", "cpu", torch.bfloat16)]
    if torch.cuda.is_available():
        found.append(("fp16 autocast on CUDA", "cuda", torch.float16))
    return found


def _every_parameter(subject: Subject, figures: dict[str, Any]) -> list[str]:
    subject.say("one backward pass")
    model = ready_for_loss(subject.copy())
    batch = training_batch(model, 2, subject.small, seed=1)
    try:
        with watching(model):
            loss = loss_of(model, batch)
    except LayerError as error:
        return [f"{subject.layer(error.index)} fails in training mode: {error.text}"]
    figures["loss"] = float(loss.detach())
    if not bool(torch.isfinite(loss)):
        return [f"the first loss is {float(loss)}: {_first_not_finite(subject, model, batch)}"]
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        return [f"the backward pass fails: {str(error).splitlines()[0]}"]
    problems, count = [], 0
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        count += 1
        if parameter.grad is None:
            problems.append(f"{subject.parameter(name)} receives no gradient; it is never used ({parameter.numel():,})")
        elif not bool(torch.isfinite(parameter.grad).all()):
            problems.append(f"{subject.parameter(name)} receives a gradient that is not finite")
    figures["parameters_with_gradient"] = count - len(problems)
    return problems


def _first_not_finite(subject: Subject, model: Any, batch: dict[str, Tensor]) -> str:
    """Name the first layer whose output is not finite."""
    found: list[int] = []

    def look(index: int, output: Any) -> None:
        if not all(bool(torch.isfinite(t).all()) for t in tensors_in(output) if t.dtype.is_floating_point):
            found.append(index)

    with torch.no_grad(), watching(model, leave=look):
        model(batch["img"])
    return (
        f"{subject.layer(found[0])} returns values that are not finite" if found else "all layers return finite values"
    )


def _steps(subject: Subject, name: str, device: str, dtype: torch.dtype | None, figures: dict[str, Any]) -> list[str]:
    """Plain gradient descent with clipping, as a stock trainer clips; the loss and all parameters must stay finite."""
    torch.manual_seed(0)
    model = ready_for_loss(subject.copy().to(device))
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3, momentum=0.9)
    scaler = torch.amp.GradScaler(device, enabled=dtype is torch.float16)
    losses = []
    for step in range(STEPS):
        batch = {k: v.to(device) for k, v in training_batch(model, 2, subject.small, seed=step).items()}
        try:
            with torch.autocast(device, dtype=dtype, enabled=dtype is not None), watching(model):
                loss = loss_of(model, batch)
            losses.append(float(loss.detach()))
            if not bool(torch.isfinite(loss)):
                with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
                    layer = _first_not_finite(subject, model, batch)
                return [f"step {step + 1} in {name}: the loss is {losses[-1]}; {layer}"]
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        except LayerError as error:
            return [f"{subject.layer(error.index)} fails in {name}: {error.text}"]
        except RuntimeError as error:
            return [f"step {step + 1} in {name} fails: {str(error).splitlines()[0]}"]
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        scaler.step(optimiser)
        scaler.update()
        optimiser.zero_grad()
        for label, parameter in model.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                return [f"{subject.parameter(label)} is not finite after step {step + 1} in {name}"]
    figures[f"losses {name}"] = losses
    return []


def _half_range(subject: Subject, figures: dict[str, Any]) -> list[str]:
    """Look for values beyond float16's range in a float32 forward pass, inside the layers too.

    bfloat16 has float32's range, so a CPU would not notice what overflows on a GPU. Every operation's result is looked
    at, except in the head, which computes its loss and boxes in float32.
    """
    subject.say("range of half precision")
    model = ready_for_loss(subject.copy())
    head = len(model.model) - 1
    worst: dict[int, tuple[float, str]] = {}

    def see(index: int, operation: str, result: Any) -> None:
        if index == head:
            return
        for tensor in tensors_in(result):
            if tensor.dtype is torch.float32 and tensor.numel():
                value = float(tensor.detach().nan_to_num(0.0, 0.0, 0.0).abs().max())
                worst[index] = max(worst.get(index, (0.0, "")), (value, operation))

    pictures = training_batch(model, 2, subject.small, seed=1)["img"]
    try:
        with torch.no_grad(), watching_operations(model, see):
            model(pictures)
    except LayerError:
        return []  # reported by the backward pass
    if not worst:
        return []
    peak = max(worst, key=lambda index: worst[index][0])
    figures["largest_value"] = worst[peak][0]
    beyond = next((index for index in sorted(worst) if worst[index][0] > HALF_MAX), None)
    if beyond is None:
        return []
    value, operation = worst[beyond]
    return [
        f"{subject.layer(beyond)} reaches {value:.3g} in {operation}, beyond half precision ({HALF_MAX:.0f}): it "
        "becomes infinite under float16 autocast and in half-precision inference"
    ]
