"""Check 3: does the seed, and only the seed, decide the weights and the first losses?"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from typing import Any

import numpy
import torch
from torch import Tensor

from detgraft.measure.watch import LayerError, first_drift, outputs_by_layer, watching, watching_operations
from detgraft.upstream.service.batches import training_batch
from detgraft.upstream.service.descriptions import base_of, description_of
from detgraft.upstream.service.losses import loss_of, ready_for_loss
from detgraft.upstream.service.models import build_seeded, is_rtdetr, load_weights
from detgraft.verify.result import CheckResult, skipped, verdict
from detgraft.verify.subject import Subject, preserved_random

NAME = "seeds"

# Forward operations whose CUDA form, or that of their gradient, adds in an order that changes from run to run (list in
# the documentation of torch.use_deterministic_algorithms).
WITHOUT_DETERMINISM = frozenset(
    (
        "grid_sampler_2d",
        "grid_sampler_3d",
        "upsample_bilinear2d",
        "upsample_bicubic2d",
        "upsample_linear1d",
        "upsample_trilinear3d",
        "_adaptive_avg_pool2d",
        "_adaptive_avg_pool3d",
        "adaptive_max_pool2d",
        "fractional_max_pool2d",
        "max_unpool2d",
        "reflection_pad1d",
        "reflection_pad2d",
        "replication_pad1d",
        "replication_pad2d",
        "replication_pad3d",
        "scatter_add",
        "index_add",
        "put_",
        "histc",
        "bincount",
        "kthvalue",
        "median",
        "cumsum",
        "deform_conv2d",
        "roi_align",
    )
)


def check(subject: Subject) -> CheckResult:
    """Build and run with equal and with different seeds, and look for random numbers in evaluation mode."""
    if subject.model is None:
        return skipped(NAME, "the model cannot be built")
    figures: dict[str, Any] = {"imgsz": subject.small}
    notes: list[str] = []
    with preserved_random():
        problems = _evaluation_draws(subject)
        problems += _weights_and_losses(subject, figures)
        problems += _transferred(subject, figures)
        listed = _operations(subject)
    if listed:
        figures["without_deterministic_form"] = listed
        names = sorted({name for entry in listed.values() for name in entry})
        notes.append(f"without a deterministic form on CUDA: {', '.join(names)}")
    return verdict(NAME, problems, figures, notes)


def _evaluation_draws(subject: Subject) -> list[str]:
    """Find the first layer that draws random numbers, or answers differently twice, in evaluation mode."""
    subject.say("random numbers in evaluation mode")
    model = subject.woken()
    size = 128 if is_rtdetr(model) else max(subject.stride, 64)
    pictures = subject.pictures(1, size, size)
    states: dict[int, Any] = {}
    drawn: list[int] = []

    def remember(index: int, _output: Any) -> None:
        states[index] = _random_state()

    def look(index: int, _output: Any) -> None:
        if not _same_state(states[index], _random_state()):
            drawn.append(index)

    try:
        with torch.no_grad(), watching(model, leave=look, enter=remember):
            model(pictures)
        if drawn:
            return [f"{subject.layer(drawn[0])} draws random numbers in evaluation mode"]
        torch.manual_seed(1)
        first = outputs_by_layer(model, pictures)
        torch.manual_seed(2)
        second = outputs_by_layer(model, pictures)
    except LayerError as error:
        return [f"{subject.layer(error.index)} fails in evaluation mode: {error.text}"]
    drift = first_drift(first, second, 0.0)
    if drift is None:
        return []
    return [f"{subject.layer(drift[0])} answers differently for the same picture (by {drift[1]:.2g} of its magnitude)"]


def _random_state() -> tuple[Tensor, Any, Any]:
    return torch.random.get_rng_state(), numpy.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]


def _same_state(before: tuple[Tensor, Any, Any], after: tuple[Tensor, Any, Any]) -> bool:
    return torch.equal(before[0], after[0]) and bool((before[1] == after[1]).all()) and before[2] == after[2]


def _built(subject: Subject, seed: int) -> tuple[dict[str, Tensor], list[float]]:
    """Build with a seed; return the weights and the losses of two training steps."""
    random.seed(seed)
    numpy.random.seed(seed)
    model = build_seeded(subject.mapping, seed, subject.channels)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    model = ready_for_loss(model)
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for step in range(2):
        loss = loss_of(model, training_batch(model, 2, subject.small, seed=step))
        losses.append(float(loss.detach()))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()
    return weights, losses


def _weights_and_losses(subject: Subject, figures: dict[str, Any]) -> list[str]:
    subject.say("two builds and two steps per seed")
    if not subject.mapping:
        return []
    try:
        first, losses = _built(subject, 0)
        again, losses_again = _built(subject, 0)
        other, losses_other = _built(subject, 1)
    except (RuntimeError, ValueError) as error:
        return [f"training fails: {str(error).splitlines()[0]}"]
    figures["losses"] = losses
    problems = []
    differing = [name for name in first if not torch.equal(first[name], again[name])]
    if differing:
        problems.append(f"{subject.parameter(differing[0])} differs between two builds with the same seed")
    elif losses != losses_again:
        step = next(i for i, (a, b) in enumerate(zip(losses, losses_again, strict=True), 1) if a != b)
        problems.append(f"the loss of step {step} differs between two runs with the same seed: {losses} {losses_again}")
    if losses == losses_other:
        problems.append("the first losses are the same with another seed")
    same = _drawn(first, other)
    figures["tensors_drawn"] = len(same)
    if not same:
        problems.append("no weight changes with the seed")
    return problems


def _drawn(first: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """The names of the tensors that the seed decides."""
    return [name for name in first if not torch.equal(first[name], other[name])]


def _transferred(subject: Subject, figures: dict[str, Any]) -> list[str]:
    """With weights from the base model, the kept layers must not depend on the seed and the new ones must."""
    base = base_of(subject.mapping)
    if base is None:
        return []
    subject.say(f"the same with weights transferred from {base}")
    description = description_of(base) | {"nc": subject.mapping.get("nc")}
    source = build_seeded(description, 7, subject.channels)
    states = []
    for seed in (0, 0, 1):
        model = build_seeded(subject.mapping, seed, subject.channels)
        drawn = {name: value.clone() for name, value in model.state_dict().items()}
        load_weights(model, source)
        states.append((drawn, dict(model.state_dict())))
    (drawn_a, a), (_, again), (drawn_b, b) = states
    arrived = [name for name in a if not torch.equal(a[name], drawn_a[name])]
    new = [name for name in _drawn(drawn_a, drawn_b) if torch.equal(a[name], drawn_a[name])]
    figures["tensors_transferred"], figures["tensors_new"] = len(arrived), len(new)
    # A layer may well start from constants (zeros, ones), but numbers that look drawn must have been drawn.
    fixed = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and p.ndim > 1 and name not in arrived and name not in new and not _is_constant(a[name])
    ]
    problems = [f"{subject.parameter(name)} is new and the same for every seed" for name in fixed]
    problems += [
        f"{subject.parameter(name)} was transferred and still depends on the seed"
        for name in arrived
        if not torch.equal(a[name], b[name])
    ]
    problems += [
        f"{subject.parameter(name)} is new and differs between two builds with the same seed"
        for name in new
        if not torch.equal(a[name], again[name])
    ]
    return problems


def _is_constant(value: Tensor) -> bool:
    return bool((value == value.flatten()[0]).all())


def _operations(subject: Subject) -> dict[str, list[str]]:
    """Operations of one training forward pass without a deterministic form, by layer."""
    model = ready_for_loss(subject.copy())
    found: dict[int, set[str]] = {}

    def see(index: int, operation: str, _result: Any) -> None:
        if operation in WITHOUT_DETERMINISM:
            found.setdefault(index, set()).add(operation)

    pictures = training_batch(model, 2, subject.small, seed=1)["img"]
    # A model that does not run in training mode is for the check of gradients to report.
    with contextlib.suppress(LayerError), torch.no_grad(), watching_operations(model, see):
        model(pictures)
    return {subject.layer(index): sorted(names) for index, names in found.items()}
