"""``fuse()`` folds every graft, changes no output, may be called twice, and survives copying and pickling."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from support import BY_KEY, KEYS, NC, OFFICIAL, main_output, official_form, randomise_norms
from torch import nn

from detgraft import build
from detgraft.blocks.parts.fusing import fuse_tree
from detgraft.upstream.model.marks import is_stock

ALL = [*KEYS, *(f"{key}_official" for key in OFFICIAL)]


def trained(name: str, folder: Path) -> Any:
    """A model in evaluation mode whose norms hold statistics as after a training."""
    torch.manual_seed(0)
    key = name.removesuffix("_official")
    path = BY_KEY[key].zoo if name == key else official_form(key, folder)
    model = build(path, nc=NC)
    randomise_norms(model)
    return model.eval()


def norms_left(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def picture(key: str) -> torch.Tensor:
    return torch.rand(2, 3, 128, 160, generator=torch.Generator().manual_seed(1))


def assert_same(found: torch.Tensor, expected: torch.Tensor, key: str) -> None:
    if key == "rtdetr":  # its queries may change places when scores are nearly equal
        found, expected = (value[..., 4:].amax(-1).sort(-1).values for value in (found, expected))
    assert found.shape == expected.shape
    difference = (found - expected).abs().max() / expected.abs().max()
    assert difference < 1e-4, f"{key}: {float(difference):.2e} of the magnitude"


@pytest.mark.parametrize("name", ALL)
def test_fusing_keeps_the_outputs_and_folds_the_grafts(name: str, tmp_path: Path) -> None:
    model = trained(name, tmp_path)
    before = main_output(model, picture(name))
    count = len(norms_left(model))
    model.fuse(verbose=False)
    assert_same(main_output(model, picture(name)), before, name)
    left = norms_left(model)
    assert len(left) < count
    if name == "rtdetr":  # stock leaves the three norms of the decoder's input projections
        assert all(n.startswith("model.23.input_proj.") for n in left), left
    else:
        assert left == []


@pytest.mark.parametrize("name", ALL)
def test_fusing_twice_changes_nothing(name: str, tmp_path: Path) -> None:
    model = trained(name, tmp_path).fuse(verbose=False)
    once, keys = main_output(model, picture(name)), list(model.state_dict())
    model.fuse(verbose=False)
    assert list(model.state_dict()) == keys
    assert torch.equal(main_output(model, picture(name)), once)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("fused", [False, True])
def test_copies_and_pickles_are_exact(name: str, fused: bool, tmp_path: Path) -> None:
    model = trained(name, tmp_path)
    if fused:
        model.fuse(verbose=False)
    expected = main_output(model, picture(name))
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for twin in (copy.deepcopy(model), torch.load(buffer, weights_only=False)):
        assert list(twin.state_dict()) == list(model.state_dict())
        assert torch.equal(main_output(twin, picture(name)), expected)
        assert [m.training for m in twin.modules()] == [m.training for m in model.modules()]


@pytest.mark.parametrize("name", ["repvit", "c3k2_dynamicconv"])
def test_folding_the_grafts_draws_nothing(name: str, tmp_path: Path) -> None:
    model = trained(name, tmp_path)
    state = torch.get_rng_state()
    fuse_tree(model.model, leave=is_stock)
    assert torch.equal(torch.get_rng_state(), state)
