"""Check 4: is the loss that was asked for the one that is trained, and does it stay finite?"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from detgraft.losses.terms import BoxTerm, ClassTerm
from detgraft.plan.losses import LossTerm, losses_of
from detgraft.upstream.service.batches import training_batch
from detgraft.upstream.service.losses import is_stock_loss, loss_of, ready_for_loss, stock_box_loss, with_losses
from detgraft.verify.result import CheckResult, skipped, verdict
from detgraft.verify.subject import Subject, preserved_random

NAME = "losses"
TOLERANCE = 1e-4
"""Relative, between a loss whose options reduce it to the stock one and the stock one."""

PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)

_PAIRS = (
    ((50, 50, 50, 50), (40, 40, 80, 80)),  # no size
    ((50, 50, 50, 50), (50, 50, 50, 50)),
    ((40, 40, 80, 80), (50, 50, 50, 50)),
    ((50, 20, 50, 90), (20, 50, 90, 50)),
    ((40, 40, 80, 80), (40, 40, 80, 80)),  # identical
    ((0, 0, 10, 10), (100, 100, 110, 110)),  # disjoint
    ((0, 0, 10, 10), (9000, 9000, 9100, 9100)),  # far apart
    ((-400, -300, -350, -250), (10, 10, 60, 60)),  # outside the picture
)
"""Predicted and target boxes on which formulas of overlap divide by nothing."""

_SCORES = (-6e4, -80.0, -10.0, 0.0, 10.0, 80.0, 6e4)


def check(subject: Subject) -> CheckResult:
    """Compare the loss of a batch with the stock loss, follow its gradient, and try it on boxes without sense."""
    asked = losses_of(subject.mapping)
    if not asked:
        return skipped(NAME, "the losses are Ultralytics' own")
    if subject.model is None:
        return skipped(NAME, "the model cannot be built")
    figures: dict[str, Any] = {found.entry.kind: str(found) for found in asked}
    with preserved_random():
        problems = _on_a_batch(subject, figures)
        for found in asked:
            subject.say(f"{found} on boxes and scores without sense")
            term = found.entry.term(found.term.keywords)
            if isinstance(term, BoxTerm):
                problems += _degenerate_boxes(found, term) + _reduced_box(found)
            else:
                problems += _extreme_scores(found, term) + _reduced_class(found)
    return verdict(NAME, problems, figures)


def _on_a_batch(subject: Subject, figures: dict[str, Any]) -> list[str]:
    subject.say("one batch with this loss and with the stock one")
    stock = ready_for_loss(with_losses(subject.copy(), []))
    batch = training_batch(stock, 2, subject.small, seed=1)
    expected, reached = _backward(stock, batch)
    model = ready_for_loss(subject.copy())
    is_stock = is_stock_loss(model.criterion)
    loss, found = _backward(model, batch)
    figures |= {"loss": loss, "stock_loss": expected, "head_branches_reached": len(found)}
    problems = [f"no gradient of the loss reaches {name} of the head" for name in sorted(reached - found)]
    if is_stock and loss != expected:
        problems.append(f"it is Ultralytics' own loss and gives {loss:.9g} instead of {expected:.9g}")
    if not is_stock and loss == expected:
        problems.append(f"the loss of a batch is the stock one's, {loss:.9g}: the term has no effect")
    return problems


def _backward(model: Any, batch: dict[str, Tensor]) -> tuple[float, set[str]]:
    """The loss of a batch, and the branches of the head that its gradient reaches."""
    torch.manual_seed(0)  # RT-DETR draws noise for its queries
    loss = loss_of(model, copy.deepcopy(batch))
    loss.backward()  # type: ignore[no-untyped-call]
    head: nn.Module = list(model.model)[-1]
    reached = {
        name
        for name, branch in head.named_children()
        if any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in branch.parameters())
    }
    return float(loss.detach()), reached


def _degenerate_boxes(found: LossTerm, term: BoxTerm) -> list[str]:
    if term.stock:
        return []  # Ultralytics computes it itself
    boxes = torch.tensor(_PAIRS, dtype=torch.float32)
    problems = []
    for dtype in PRECISIONS:
        pred = boxes[:, 0].to(dtype).requires_grad_()
        half = torch.bfloat16 if dtype == torch.float32 else dtype
        with torch.autocast("cpu", half, enabled=dtype != torch.float32):
            loss = term(pred, boxes[:, 1], torch.tensor([640.0, 640.0]), torch.ones(()))
            loss.sum().backward()  # type: ignore[no-untyped-call]
        gradients = torch.zeros_like(pred) if pred.grad is None else pred.grad
        for pair, value, gradient in zip(_PAIRS, loss, gradients, strict=True):
            if not bool(value.isfinite()) or not bool(gradient.isfinite().all()):
                what = f"'{found}' of {pair[0]} and {pair[1]} in {str(dtype).removeprefix('torch.')}"
                problems.append(f"{what} is {float(value):g} with the gradient {gradient.tolist()}")
    return problems


def _extreme_scores(found: LossTerm, term: ClassTerm) -> list[str]:
    problems = []
    for dtype in PRECISIONS:
        for label in (0.0, 0.5, 1.0):
            logits = torch.tensor(_SCORES).to(dtype).requires_grad_()
            targets = torch.full((len(_SCORES),), label)
            loss = term(logits, targets, targets, torch.tensor(0.5))
            loss.sum().backward()  # type: ignore[no-untyped-call]
            if not bool(loss.isfinite().all()) or logits.grad is None or not bool(logits.grad.isfinite().all()):
                name = str(dtype).removeprefix("torch.")
                problems.append(f"'{found}' of extreme scores with the target {label} is not finite in {name}")
    return problems


def _ordinary() -> Tensor:
    random = torch.Generator().manual_seed(1)
    middle, half = 100 + 40 * torch.rand(2, 32, 2, generator=random), 10 + 40 * torch.rand(2, 32, 2, generator=random)
    return torch.cat((middle - half, middle + half), -1)


def _reduced_box(found: LossTerm) -> list[str]:
    """With modifiers that do nothing a loss is itself, and with its own options of that kind the stock one."""
    pred, target = _ordinary()
    entry, image, mean = found.entry, torch.tensor([640.0, 640.0]), torch.ones(())
    own = {key: value for key, value in found.term.keywords.items() if key in entry.options}
    compared: list[tuple[str, Tensor, Tensor]] = []
    if entry.takes_overlap():
        plain: Any = entry.term(own)
        idle: Any = entry.term({**own, "inner": 1.0, "focaler": (0.0, 1.0)})
        compared.append(("without its modifiers", idle(pred, target, image, mean), plain(pred, target, image, mean)))
    if entry.reduces is not None:
        reduced: Any = entry.term(entry.reduces)
        compared.append(("Ultralytics' CIoU", reduced(pred, target, image, mean), stock_box_loss(pred, target)))
    return _differing(found, compared)


def _reduced_class(found: LossTerm) -> list[str]:
    if found.entry.reduces is None:
        return []
    random = torch.Generator().manual_seed(1)
    logits, targets = torch.randn(64, generator=random), torch.rand(64, generator=random)
    term: Any = found.entry.term(found.entry.reduces)
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return _differing(found, [("cross-entropy", term(logits, targets, targets, targets.mean()), entropy)])


def _differing(found: LossTerm, compared: list[tuple[str, Tensor, Tensor]]) -> list[str]:
    return [
        f"'{found.entry.name}' reduced to {what} differs from it by {float((a - b).abs().max()):.2g}"
        for what, a, b in compared
        if not torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE)
    ]
