"""Every listed backbone: parameters at factor 1, widths by factor, and widths that follow the model scale."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from detgraft import build
from detgraft.blocks.backbones.convnextv2 import DIMS
from detgraft.blocks.backbones.repvit import SETTINGS
from detgraft.catalog.registry import catalogue
from detgraft.upstream.describe.resolve import zoo_yamls

# REFERENCE section 1: the backbone alone at factor 1, without the dead norm and classifier.
PARAMETERS = {
    "convnextv2_atto": 3_386_760,
    "convnextv2_femto": 4_847_472,
    "convnextv2_pico": 8_552_256,
    "convnext_pico": 8_552_256,
    "convnextv2_nano": 14_981_520,
    "convnextv2_tiny": 27_864_960,
    "convnextv2_base": 87_690_752,
    "convnextv2_large": 196_416_768,
    "convnextv2_huge": 657_467_008,
    "repvit_m0_6": 2_165_652,
    "repvit_m0_9": 4_717_792,
    "repvit_m1_0": 6_403_004,
    "repvit_m1_1": 7_774_864,
    "repvit_m1_5": 13_616_384,
    "repvit_m2_3": 22_404_232,
}
WIDTHS = {"n": 0.25, "s": 0.5, "m": 1.0, "l": 1.0, "x": 1.5}
ATTO = (40, 80, 160, 320)


def backbone(name: str, device: str = "cpu", **arguments: Any) -> Any:
    entry = catalogue.get(name)
    target = entry.load()
    first = next(p for p in inspect.signature(target).parameters if p not in entry.preset)
    with torch.device(device):
        return target(**{first: 3}, **entry.preset, **arguments)


def official_width(channels: int, factor: float) -> int:
    """The official RepViT code's rounding: to the nearest multiple of 8, but not down by more than a tenth."""
    scaled = channels * factor
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_at_factor_1(name: str) -> None:
    built = backbone(name, "meta")
    assert sum(p.numel() for p in built.parameters()) == PARAMETERS[name]
    assert tuple(built.reductions) == (4, 8, 16, 32)


@pytest.mark.parametrize("size", DIMS)
@pytest.mark.parametrize("factor", [0.25, 0.5, 1.5])
def test_convnextv2_widths(size: str, factor: float) -> None:
    built = backbone(f"convnextv2_{size}", "meta", width=factor)
    assert tuple(built.channels) == tuple(int(dim * factor) for dim in DIMS[size])


@pytest.mark.parametrize("size", SETTINGS)
@pytest.mark.parametrize("factor", [0.25, 0.5, 1.5])
def test_repvit_widths(size: str, factor: float) -> None:
    built = backbone(f"repvit_{size}", "meta", width=factor)
    assert tuple(built.channels) == tuple(official_width(c, factor) for c in SETTINGS[size][0])


@pytest.mark.parametrize("name", ["convnextv2_atto", "repvit_m0_6"])
def test_features_have_the_declared_channels_and_strides(name: str) -> None:
    built = backbone(name, width=0.25).eval()
    with torch.no_grad():
        features = built(torch.rand(1, 3, 96, 160))
    assert [tuple(f.shape) for f in features] == [
        (1, c, 96 // r, 160 // r) for c, r in zip(built.channels, (4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize("family", ["convnextv2", "repvit"])
@pytest.mark.parametrize("scale", ["n", "s", "m", "l", pytest.param("x", marks=pytest.mark.slow)])
def test_the_zoos_width_follows_the_scale(family: str, scale: str) -> None:
    model: Any = build(f"yolo11{scale}-{family}.yaml")
    factor = WIDTHS[scale]
    expected = [int(c * factor) if family == "convnextv2" else official_width(c, factor) for c in ATTO]
    assert list(model.model[0].channels) == expected
    assert model.stride.tolist() == [8, 16, 32]


@pytest.mark.parametrize("name", ["convnext_pico", "convnextv2_femto", "repvit_m0_9"])
def test_other_sizes_in_a_detector(name: str, tmp_path: Path) -> None:
    text = zoo_yamls()["yolo11-convnextv2.yaml"].read_text("utf-8").replace("convnextv2_atto", name)
    (tmp_path / "yolo11-other.yaml").write_text(text, "utf-8")
    model: Any = build(tmp_path / "yolo11n-other.yaml", nc=3).eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 96))
    own = sum(p.numel() for p in model.model[0].parameters())
    assert own == sum(p.numel() for p in backbone(name, "meta", width=0.25).parameters())


def test_names_differ_only_in_name() -> None:
    assert catalogue.get("convnext_pico") is catalogue.get("convnextv2_pico")
