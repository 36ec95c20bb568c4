"""Backbones that timm does not have: equal to their official code, with its parameters, foldable.

The numbers in ``tests/golden/blocks`` were computed by the official code (see ``scripts/make_block_triples.py``), made
narrow and shallow, and so were the parameters here, without classifiers: AILab-CVC/UniRepLKNet b5677d8 (without the
norms of its detection code), zcablii/LSKNet cbe06ca, NUST-Machine-Intelligence-Laboratory/PKINet c1e72da,
huawei-noah/VanillaNet 6aaf731.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ops_reference import assert_close, batch_norms, randomise_norms, without_gradient
from torch import Tensor, nn

from detgraft.blocks.backbones.lsknet import LSKNet
from detgraft.blocks.backbones.pkinet import PKINet
from detgraft.blocks.backbones.unireplknet import UniRepLKNet
from detgraft.blocks.backbones.vanillanet import VanillaNet, vanillanet
from detgraft.blocks.parts.fusing import fuse_tree
from detgraft.blocks.unireplk_block import BRANCHES
from detgraft.catalog.registry import catalogue
from detgraft.errors import ArgumentError, CatalogError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "blocks"
PARAMETERS = {
    "unireplknet_a": 4_327_420,
    "unireplknet_f": 6_103_560,
    "unireplknet_p": 10_566_496,
    "unireplknet_n": 18_176_600,
    "unireplknet_t": 31_051_140,
    "unireplknet_s": 55_686_168,
    "unireplknet_b": 98_062_368,
    "unireplknet_l": 218_535_984,
    "unireplknet_xl": 386_637_888,
    "lsknet_t": 3_990_190,
    "lsknet_s": 13_840_892,
    "pkinet_t": 4_156_896,
    "pkinet_s": 13_739_584,
    "pkinet_b": 25_922_400,
    "vanillanet_5": 17_228_800,
    "vanillanet_6": 51_016_704,
    "vanillanet_7": 51_570_176,
    "vanillanet_8": 60_075_520,
    "vanillanet_9": 68_580_864,
    "vanillanet_10": 77_086_208,
    "vanillanet_11": 85_591_552,
    "vanillanet_12": 94_096_896,
    "vanillanet_13": 102_602_240,
    "vanillanet_13_x1_5": 229_794_048,
}
SMALLEST = ("unireplknet_a", "lsknet_t", "pkinet_t", "vanillanet_5", "vanillanet_13")

Names = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]


def _one_less(name: str) -> Callable[[re.Match[str]], str]:
    return lambda found: f"{name}.{int(found[1]) - 1}"


NARROW: dict[str, tuple[Callable[[], nn.Module], Names]] = {
    "unireplknet": (
        lambda: UniRepLKNet(3, (8, 8, 16, 16), ((3,), (13,), (13, 3), (13,)), 0.5),
        [
            (r"(stages\.\d\.\d)\.norm", r"\1.dwconv.norm"),
            (r"se\.down", "se.squeeze"),
            (r"se\.up", "se.excite"),
            (r"pwconv1\.1", "pwconv1"),
            (r"act\.1", "grn"),
            (r"pwconv2\.0", "pwconv2.conv"),
            (r"pwconv2\.2", "pwconv2.bn"),
            (r"dwconv\.weight", "dwconv.lk_origin.weight"),
            *((rf"dil_{kind}_k{k}_{d}", f"branches.{i}.{kind}") for i, (k, d) in enumerate(BRANCHES[13])
              for kind in ("conv", "bn")),
        ],
    ),
    "lsknet": (
        lambda: LSKNet(3, (8, 8, 16, 16), (1, 1, 1, 1), (2, 2, 2, 2)),
        [
            (r"^norm(\d)", _one_less("norms")),
            (r"^patch_embed(\d)", _one_less("embeddings")),
            (r"^block(\d)", _one_less("stages")),
            (r"attn\.|mlp\.", ""),
            (r"dwconv\.dwconv", "dwconv"),
        ],
    ),
    "pkinet": (
        lambda: PKINet(3, 8, (8, 8, 8, 8), (2, 1, 1, 1)),
        [
            (r"^stem.*", ""),  # the stem, which is the first stage, too
            (r"^stages\.0\.down_conv", "stem.0"),
            (r"^stages\.0\.conv1", "stem.1"),
            (r"^stages\.0\.conv2", "stem.2"),
            (r"^stages\.(\d)", _one_less("stages")),
            (r"downsample\.down_conv", "downsample"),
            (r"\.block\.", "."),
            (r"caa_factor\.(\w+)\.conv", r"caa_factor.\1"),
            (r"dw_conv\.conv", "kernels.0"),
            (r"dw_conv(\d)\.conv", r"kernels.\1"),
            (r"ffn_layers\.1", "norm"),
            (r"ffn_layers\.3\.conv", "expand"),
            (r"ffn_layers\.4\.conv", "depthwise"),
            (r"ffn_layers\.7\.conv", "reduce"),
        ],
    ),
    "vanillanet": (
        lambda: VanillaNet(3, (8, 8, 12, 16, 16), (2, 2, 1, 2)),
        [
            (r"^net\.", ""),
            (r"^stem1\.0", "stem.conv1"),
            (r"^stem1\.1", "stem.norm1"),
            (r"^stem2\.0", "stem.conv2"),
            (r"^stem2\.1", "stem.norm2"),
            (r"^stem2\.2", "stem.act"),
            (r"(stages\.\d)\.conv(\d)\.0", r"\1.conv\2"),
            (r"(stages\.\d)\.conv(\d)\.1", r"\1.norm\2"),
            (r"act\.weight", "act.conv.conv.weight"),
            (r"act\.bn", "act.conv.bn"),
        ],
    ),
}  # fmt: skip


def _official(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Our narrow network with the official weights, the input and the official output."""
    build, names = NARROW[name]
    arrays = dict(np.load(GOLDEN / f"{name}.npz"))
    module = build().eval()
    state = {key: value for key, value in module.state_dict().items() if key.endswith("num_batches_tracked")}
    for key in (key.removeprefix("w/") for key in arrays if key.startswith("w/")):
        ours = key
        for pattern, replacement in names:
            ours = re.sub(pattern, replacement, ours)
        if ours:
            state[ours] = torch.from_numpy(arrays[f"w/{key}"])
    for key, value in module.state_dict().items():  # a linear layer that is a 1x1 convolution here
        state[key] = state[key].reshape(value.shape)
    module.load_state_dict(state)
    return module, torch.from_numpy(arrays["input"]), torch.from_numpy(arrays["output"])


def _joined(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([feature.flatten(1) for feature in module(x)], 1)


@pytest.mark.parametrize("name", NARROW)
def test_equals_the_official_code_and_folds(name: str) -> None:
    module, x, expected = _official(name)
    assert_close(_joined(module, x), expected)
    for _ in range(2):  # twice: folding again changes nothing
        fuse_tree(nn.Sequential(module))
        assert not batch_norms(module)
        assert_close(_joined(module, x), expected, relative=1e-5)


@pytest.mark.parametrize("name", NARROW)
def test_features_and_gradients(name: str) -> None:
    module: Any = NARROW[name][0]()
    randomise_norms(module)
    x = torch.randn(2, 3, 64, 96)
    sizes = [(feature.shape[1], 64 // feature.shape[2], 96 // feature.shape[3]) for feature in module(x)]
    assert sizes == [(c, r, r) for c, r in zip(module.channels, (4, 8, 16, 32), strict=True)]
    assert module.reductions == (4, 8, 16, 32)
    assert without_gradient(module, x) == []


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SMALLEST else [pytest.mark.slow]) for name in PARAMETERS]
)
def test_official_parameters(name: str) -> None:
    entry = catalogue.get(name)
    with torch.device("meta"):
        module = entry.load()(c1=3, **entry.preset)
    assert sum(p.numel() for p in module.parameters()) == PARAMETERS[name]


def test_every_size_is_held_to_its_official_parameters() -> None:
    families = ("unireplknet_", "lsknet_", "pkinet_", "vanillanet_")
    assert {e.name for e in catalogue if e.name.startswith(families)} == set(PARAMETERS)


def test_vanillanet_keeps_two_convolutions_where_something_is_between_them() -> None:
    torch.manual_seed(0)
    module = vanillanet("5", 3, 0.01, slope=0.3).eval()
    randomise_norms(module)
    x = torch.randn(1, 3, 64, 64)
    expected = _joined(module, x)
    fuse_tree(nn.Sequential(module))
    assert not batch_norms(module)
    assert module.stem.conv1 is not None
    assert_close(_joined(module, x), expected, relative=1e-5)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("unireplknet_a", CatalogError, "unknown UniRepLKNet size 'q'"),
        ("lsknet_t", CatalogError, "unknown LSKNet size 'q'"),
        ("pkinet_t", CatalogError, "unknown PKINet size 'q'"),
        ("vanillanet_5", CatalogError, "unknown VanillaNet size 'q'"),
        ("unireplknet_a", ArgumentError, "width must be a positive number"),
        ("lsknet_t", ArgumentError, "width must be a positive number"),
        ("pkinet_t", ArgumentError, "width must be a positive number"),
        ("vanillanet_5", ArgumentError, "width must be a positive number"),
    ],
)
def test_wrong_values_are_named(name: str, error: type[Exception], words: str) -> None:
    entry = catalogue.get(name)
    values: dict[str, Any] = {"size": "q"} if error is CatalogError else {**entry.preset, "width": -1.0}
    with pytest.raises(error, match=words):
        entry.load()(c1=3, **values)
