"""Grafted models run channels-last on the CPU; stock models and graphs are left alone."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from ultralytics.cfg import get_cfg

from detgraft.kernels.layout import in_fast_layout
from detgraft.upstream.model.models import build


def layouts_into(layer: nn.Module) -> list[bool]:
    """Note of every call of a layer whether its input was channels-last."""
    seen: list[bool] = []

    def note(_module: nn.Module, args: tuple[Any, ...]) -> None:
        seen.append(args[0].is_contiguous(memory_format=torch.channels_last) and not args[0].is_contiguous())

    layer.register_forward_pre_hook(note)
    return seen


def training_batch(height: int = 64) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        "img": torch.rand(2, 3, height, 96, generator=random),
        "batch_idx": torch.tensor([0.0, 0.0, 1.0]),
        "cls": torch.tensor([[0.0], [1.0], [0.0]]),
        "bboxes": torch.rand(3, 4, generator=random) * 0.3 + 0.3,
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("yolo11n+carafe", True),
        ("yolo11n+repvit_m0_9(width=0.25)", True),
        ("rtdetr-l+carafe", True),
        ("yolo11n.yaml", False),
    ],
)
def test_pictures_reach_the_layers_channels_last(name: str, expected: bool) -> None:
    model: Any = build(name)
    model.args, model.nc = get_cfg(), 80
    seen = layouts_into(next(module for module in model.modules() if isinstance(module, nn.Conv2d)))
    batch = training_batch(192 if "rtdetr" in name else 64)  # older releases choose 300 queries of no fewer places
    given = dict(batch)
    model.train()(batch)
    assert batch.keys() == given.keys()
    assert all(batch[key] is value for key, value in given.items()), "the caller's batch was changed"
    with torch.no_grad():
        model.eval()(batch["img"])
    assert seen == [expected] * len(seen)
    assert len(seen) >= 2


@pytest.mark.parametrize("graft", ["carafe", "dynamicconv", "convnextv2_atto(width=0.25)", "repvit_m0_9(width=0.25)"])
def test_loss_and_gradients_do_not_depend_on_the_layout(graft: str) -> None:
    model: Any = build(f"yolo11n+{graft}")
    model.args = get_cfg()
    state = {key: value.clone() for key, value in model.state_dict().items()}

    def outcome() -> list[Tensor]:
        model.load_state_dict(state)  # batch norms move their statistics
        model.train().double().zero_grad()
        batch = training_batch()
        loss = model({**batch, "img": batch["img"].double()})[0].sum()
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    last = outcome()
    with mock.patch("detgraft.kernels.layout.prefers_channels_last", return_value=False):
        first = outcome()
    for a, b in zip(last, first, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_a_graph_holds_no_conversion() -> None:
    model: Any = build("yolo11n+carafe").eval()
    model.model[-1].export, model.model[-1].format = True, "torchscript"  # as Ultralytics' exporter does
    seen = layouts_into(model.model[0].conv)
    with torch.no_grad():
        torch.jit.trace(model.requires_grad_(False), torch.rand(1, 3, 64, 64), strict=False, check_trace=False)
    assert seen == [False]


@pytest.mark.parametrize("value", [torch.zeros(2, 3), torch.zeros(1, 3, 4, 4, dtype=torch.uint8)])
def test_what_is_no_picture_in_numbers_stays(value: Tensor) -> None:
    assert in_fast_layout(value) is value


def test_values_stay() -> None:
    x = torch.rand(2, 3, 4, 5)
    assert torch.equal(in_fast_layout(x), x)
    assert in_fast_layout(x).stride() == (60, 1, 15, 3)
