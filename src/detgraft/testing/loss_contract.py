"""Contract tests for losses: what a loss must do to be trained with, for authors of own ones.

    from detgraft.testing import LossContract

    class TestMyLoss(LossContract):
        loss = "myloss"

pytest collects the subclass; each test method is one promise.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor

from detgraft.base.extras import missing
from detgraft.catalog.losses import losses
from detgraft.errors import ArgumentError
from detgraft.plan.expression import parse_term
from detgraft.plan.losses import KEY
from detgraft.upstream.model.build import build
from detgraft.upstream.service.batches import training_batch
from detgraft.upstream.service.losses import loss_of, ready_for_loss, with_losses
from detgraft.verify.check import check

try:
    import pytest
except ImportError as error:
    raise missing("pytest") from error

PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)


class LossContract:
    """Tests that a registered loss keeps its promises; subclass it and set ``loss``.

    Attributes:
        loss: The loss as an expression has it, with or without options.
        base: The model that it is put into.
    """

    loss: ClassVar[str] = ""
    base: ClassVar[str] = "yolo11n"

    def _term(self) -> Any:
        term = parse_term(self.loss)
        return losses.get(term.name).term(term.keywords)

    def _kind(self) -> str:
        return losses.get(parse_term(self.loss).name).kind

    def _value(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of 24 ordinary pairs or scores, what it was computed of, and the target."""
        random = torch.Generator().manual_seed(3)
        if self._kind() == "class":
            logits = torch.randn(24, 5, generator=random).to(dtype).requires_grad_()
            targets = torch.rand(24, 5, generator=random) * (torch.rand(24, 5, generator=random) > 0.8)
            return self._term()(logits, targets, targets, targets[targets > 0].mean()), logits, targets
        middle = 100 + 40 * torch.rand(2, 24, 2, generator=random)
        half = 10 + 40 * torch.rand(2, 24, 2, generator=random)
        boxes = torch.cat((middle - half, middle + half), -1)
        pred = boxes[0].to(dtype).requires_grad_()
        return self._term()(pred, boxes[1], torch.tensor([640.0, 640.0]), torch.ones(())), pred, boxes[1]

    def test_one_value_for_each_pair_or_score(self) -> None:
        """The loss is not summed: Ultralytics weighs each pair by its target score."""
        loss, given, _ = self._value()
        expected = given.shape if self._kind() == "class" else given.shape[:-1]
        assert loss.shape == expected, f"the loss has the shape {list(loss.shape)} instead of {list(expected)}"
        assert loss.isfinite().all(), "the loss of ordinary inputs is not finite"

    def test_it_has_a_gradient_in_every_precision(self) -> None:
        """Training under autocast gives half precision."""
        for dtype in PRECISIONS:
            loss, given, _ = self._value(dtype)
            loss.sum().backward()  # type: ignore[no-untyped-call]
            assert given.grad is not None, "no gradient"
            assert given.grad.isfinite().all(), f"the gradient is not finite in {dtype}"
            assert bool(given.grad.abs().sum() > 0), f"the gradient is zero in {dtype}"

    def test_going_down_its_gradient_leads_to_the_target(self) -> None:
        """Boxes that follow a box loss come nearer to their targets."""
        if self._kind() == "class":
            return
        _, given, target = self._value()
        boxes = given.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([boxes], lr=1.0)
        first = float((boxes - target).abs().mean())
        for _ in range(150):
            optimizer.zero_grad()
            self._term()(boxes, target, torch.tensor([640.0, 640.0]), torch.ones(())).sum().backward()
            optimizer.step()
        last = float((boxes - target).abs().mean())
        assert last < 0.5 * first, f"after 150 steps {last:.1f} pixels from the targets, {first:.1f} before"

    def test_options_are_checked(self) -> None:
        """A misspelt option is refused, not ignored."""
        entry = losses.get(parse_term(self.loss).name)
        with pytest.raises(ArgumentError, match="no_such_option"):
            entry.check({"no_such_option": 1})

    def test_inside_a_model(self) -> None:
        """It is named in the description, changes the loss of a batch, and its gradient reaches every head branch."""
        report = check(f"{self.base}+{self.loss}", imgsz=64, only=("losses",), nc=3)
        assert report["losses"].status == "pass", report["losses"].reason

    def test_the_rest_of_the_model_stays_as_it_is(self) -> None:
        """A loss has no layer: state-dict keys and outputs are the base's."""
        torch.manual_seed(0)
        stock = build(self.base, nc=3)
        torch.manual_seed(0)
        model: Any = build(f"{self.base}+{self.loss}", nc=3)
        assert list(stock.state_dict()) == list(model.state_dict())
        assert model.yaml[KEY] == [str(parse_term(self.loss))]
        prepared = ready_for_loss(copy.deepcopy(model))
        batch = training_batch(prepared, 2, 64, seed=1)
        plain = ready_for_loss(with_losses(copy.deepcopy(model), []))
        assert float(loss_of(prepared, batch)) != float(loss_of(plain, batch)), "the loss of a batch is the stock one's"
