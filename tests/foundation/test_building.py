"""What building must not do: leave dead parameters, disturb random state and statistics, or run large pictures."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from support import BY_KEY, KEYS, NC, OFFICIAL, batch_of, official_form, tensors_in
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from detgraft import build
from detgraft.upstream.release import capabilities

STOCK = ["yolo11n.yaml", "rtdetr-l.yaml"]


def with_loss(model: Any) -> Any:
    """Give a bare model the training arguments that its loss reads."""
    from ultralytics.cfg import get_cfg

    model.args, model.nc = get_cfg(), NC
    return model.train()


def parameters_without_gradient(model: Any, size: int) -> list[str]:
    torch.manual_seed(0)
    loss = with_loss(model).loss(batch_of(2, size))[0]
    loss.sum().backward()
    return [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("key", KEYS)
def test_every_parameter_gets_a_gradient(key: str) -> None:
    assert parameters_without_gradient(build(BY_KEY[key].zoo, nc=NC), 128) == []


@pytest.mark.parametrize("key", OFFICIAL)
def test_every_parameter_of_the_official_forms_gets_a_gradient(key: str, tmp_path: Any) -> None:
    assert parameters_without_gradient(build(official_form(key, tmp_path), nc=NC), 128) == []


@pytest.mark.parametrize("name", ["convnextv2_atto", "repvit_m0_6"])
def test_every_parameter_of_a_backbone_matters_to_the_loss(name: str) -> None:
    """A gradient may exist and still be zero for ever; after two steps every parameter must have moved."""
    key = "convnextv2" if name.startswith("convnext") else "repvit"
    model = with_loss(build(BY_KEY[key].zoo, nc=NC))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):  # GRN and RepViT's last norms start at zero, so what is behind them moves in the second step
        optimiser.zero_grad()
        model.loss(batch_of(2, 96))[0].sum().backward()
        optimiser.step()
    still = [n for n, p in model.named_parameters() if n.startswith("model.0.") and torch.equal(p, before[n])]
    # RepViT's official depthwise unit has a bias right before a batch norm, which takes it out again.
    assert [n for n in still if not n.endswith("token_mixer.conv1.bias")] == []


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records random draws on real devices and the largest picture-like tensor that is made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.draws: set[str] = set()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        real = [t for t in tensors_in(result) if t.device.type != "meta"]
        if torch.Tag.nondeterministic_seeded in func.tags and real:
            self.draws.add(str(func))
        for tensor in real:
            if tensor.ndim == 4:
                self.largest = max(self.largest, min(tensor.shape[-2:]))
        return result


@contextmanager
def watched() -> Iterator[_Watch]:
    watch = _Watch()
    with watch:
        yield watch


@pytest.fixture(scope="module")
def watched_stock() -> int:
    """Side of the largest picture that the release's own builds run."""
    with watched() as watch:
        for name in STOCK:
            build(name, nc=NC)
    return watch.largest


@pytest.mark.parametrize("key", KEYS)
def test_building_draws_weights_and_nothing_else(key: str) -> None:
    state = random.getstate(), np.random.get_state()
    with watched() as watch:
        build(BY_KEY[key].zoo, nc=NC)
    # Initialisers fill a tensor that exists; pictures of noise, dropout and shuffles would make a new one.
    assert watch.draws <= {"aten.uniform_.default", "aten.normal_.default"}
    assert watch.draws
    assert random.getstate() == state[0]
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), state[1], strict=True))


def test_the_watch_sees_noise_pictures() -> None:
    with watched() as watch:
        nn.functional.dropout(torch.randn(1, 3, 640, 640))
    assert watch.draws - {"aten.uniform_.default", "aten.normal_.default"}
    assert watch.largest == 640


@pytest.mark.parametrize("key", KEYS)
def test_building_runs_no_larger_picture_than_stock_does(key: str, watched_stock: int) -> None:
    with watched() as watch:
        build(BY_KEY[key].zoo, nc=NC)
    assert watch.largest <= min(watched_stock, 256)


@pytest.mark.parametrize("key", ["convnextv2", "repvit", "carafe"])
def test_the_same_seed_gives_the_same_weights(key: str) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(build(BY_KEY[key].zoo, nc=NC).state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""What the pass that finds the strides moves in a stock model on 8.3.0; in a model with grafts they stay fresh."""


def test_rows_before_a_graft_draw_what_they_draw_in_the_stock_model() -> None:
    torch.manual_seed(7)
    stock: Any = build("yolo11n.yaml", nc=NC)
    torch.manual_seed(7)
    grafted: Any = build("yolo11n-carafe.yaml", nc=NC)
    for index in range(11):  # layer 11 is the first CARAFE
        ours, theirs = grafted.model[index].state_dict(), stock.model[index].state_dict()
        drawn = [k for k in theirs if capabilities.BUILD_KEEPS_BATCH_NORM or not k.endswith(STATISTICS)]
        assert all(torch.equal(ours[k], theirs[k]) for k in drawn)


def norms(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("key", KEYS)
def test_batch_norm_statistics_are_as_fresh_as_in_a_stock_build(key: str) -> None:
    counted = max(int(norm.num_batches_tracked) for norm in norms(build(BY_KEY[key].stock, nc=NC)))
    found = norms(build(BY_KEY[key].zoo, nc=NC))
    assert found
    assert max(int(norm.num_batches_tracked) for norm in found) <= counted
    if capabilities.BUILD_KEEPS_BATCH_NORM:
        for norm in found:
            assert int(norm.num_batches_tracked) == 0
            assert torch.equal(norm.running_mean, torch.zeros_like(norm.running_mean))
            assert torch.equal(norm.running_var, torch.ones_like(norm.running_var))


@pytest.mark.parametrize("key", KEYS)
def test_a_built_model_is_in_training_mode_throughout(key: str) -> None:
    model = build(BY_KEY[key].zoo, nc=NC)
    assert [name for name, module in model.named_modules() if not module.training] == []
