from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ops_reference import (
    assert_close,
    batch_norms,
    load_exactly,
    randomise_norms,
    read_triple,
    weights_of,
    without_gradient,
)
from timm.layers import SqueezeExcite
from timm.models.repvit import ConvNorm, RepVggDw, RepVitMlp
from torch import Tensor, nn

from detgraft.blocks.backbones.repvit import SETTINGS, make_divisible, repvit, repvit_spec
from detgraft.blocks.backbones.timm_backbone import TimmBackbone, pyramid_channels
from detgraft.blocks.parts.fusing import fuse_tree
from detgraft.errors import ArgumentError, CatalogError
from detgraft.weights.backbone_files import repvit_to_timm

PARAMETERS = {
    "m0_6": 2_165_652,
    "m0_9": 4_717_792,
    "m1_0": 6_403_004,
    "m1_1": 7_774_864,
    "m1_5": 13_616_384,
    "m2_3": 22_404_232,
}


@pytest.mark.parametrize("size", PARAMETERS)
def test_parameters_and_channels(size: str) -> None:
    with torch.device("meta"):
        module = repvit(size, 3)
    assert sum(p.numel() for p in module.parameters()) == PARAMETERS[size]
    assert (module.channels, module.reductions) == (SETTINGS[size][0], (4, 8, 16, 32))


def test_width_factor() -> None:
    module = repvit("m0_6", 3, 0.5)
    assert module.channels == (24, 40, 80, 160)
    assert sum(p.numel() for p in module.parameters()) == 559_428
    name, model_args = repvit_spec("m1_0", 1.5)
    assert pyramid_channels(name, 3, model_args)[0] == (88, 168, 336, 672)
    assert repvit_spec("m1_0", 1) == ("repvit_m1_0", {})


def test_rounding_of_channels() -> None:
    # 10 would round down to 8, more than a tenth below; 12 lies half-way and goes up; nothing goes below 8
    assert [make_divisible(v) for v in (0.5, 8, 10, 12, 20, 44, 83)] == [8, 8, 16, 16, 24, 48, 80]


def test_every_parameter_learns() -> None:
    module = repvit("m0_6", 3, 0.2)
    randomise_norms(module)  # the last norm of each channel mixer starts at 0
    assert without_gradient(module, torch.randn(2, 3, 64, 64)) == []


def test_fused_has_no_norm_and_agrees() -> None:
    torch.manual_seed(0)
    module = repvit("m0_6", 3, 0.5).eval()
    randomise_norms(module)
    x = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        before = module(x)
        after = module.fuse()(x)
    assert not batch_norms(module)
    for found, expected in zip(after, before, strict=True):
        assert_close(found, expected, relative=1e-4)


class Stride2Block(nn.Module):
    """timm's parts in the official order; timm's own downsampling unit has no place for squeeze-and-excitation."""

    def __init__(self, c1: int, c2: int, excite: bool) -> None:
        super().__init__()
        self.spatial_downsample = ConvNorm(c1, c1, 3, 2, 1, groups=c1)
        self.se = SqueezeExcite(c1, 0.25) if excite else nn.Identity()
        self.channel_downsample = ConvNorm(c1, c2)
        self.ffn = RepVitMlp(c2, 2 * c2, nn.GELU)

    def forward(self, x: Tensor) -> Tensor:
        x = self.channel_downsample(self.se(self.spatial_downsample(x)))
        return x + self.ffn(x)


def check_fused(block: nn.Module, triple: dict[str, Tensor]) -> None:
    """The output before and after fusing, and that both official results are met."""
    holder = nn.Sequential(block.eval())
    with torch.no_grad():
        assert_close(holder(triple["input"]), triple["output"])
        fuse_tree(holder)
        assert_close(holder(triple["input"]), triple["output_fused"])
    assert not batch_norms(holder)
    if "fused_w" in triple:
        assert_close(holder[0].weight, triple["fused_w"])
        assert_close(holder[0].bias, triple["fused_b"])


def test_reproduces_the_convolution_unit(shared: Path) -> None:
    triple = read_triple(shared, "repvit_Conv2d_BN")
    block = ConvNorm(6, 8, 3, 2, 1)
    load_exactly(block, weights_of(triple))
    check_fused(block, triple)


def test_reproduces_the_depthwise_unit(shared: Path) -> None:
    triple = read_triple(shared, "repvit_RepVGGDW")
    block = RepVggDw(8, 3)
    load_exactly(block, weights_of(triple))
    check_fused(block, triple)


@pytest.mark.parametrize(
    ("name", "official_block", "home"),
    [("repvit_block_s1_se", 1, "stages.0.blocks.0"), ("repvit_block_s1_nose", 2, "stages.1.downsample.pre_block")],
)
def test_reproduces_a_block_of_stride_1(shared: Path, name: str, official_block: int, home: str) -> None:
    """Block 1 and block 2 of the official list, before the downsampling block 3."""
    triple = read_triple(shared, name)
    module = TimmBackbone(3, "repvit_m0_9", model_args={"embed_dim": [16] * 4, "depth": [1] * 4})
    renamed = repvit_to_timm(official_names(triple, official_block))
    top, rest = home.split(".", 2)[0:2], home.split(".", 2)[2]
    block = module.net.get_submodule("_".join(top) + "." + rest)
    load_exactly(block, {key.removeprefix(f"{home}."): value for key, value in renamed.items() if home in key})
    check_fused(block, triple)


@pytest.mark.parametrize(("name", "excite"), [("repvit_block_s2", False), ("repvit_block_s2_se", True)])
def test_reproduces_a_block_of_stride_2(shared: Path, name: str, excite: bool) -> None:
    triple = read_triple(shared, name)
    renamed = repvit_to_timm(official_names(triple, 3))
    state = {key.removeprefix("stages.1.downsample."): v for key, v in renamed.items() if "downsample." in key}
    block = Stride2Block(16, 24, excite)
    load_exactly(block, {key.replace("token_mixer.1.", "se."): v for key, v in state.items() if "pre_block" not in key})
    check_fused(block, triple)


def official_names(triple: dict[str, Tensor], block: int) -> dict[str, Tensor]:
    """Put one block's weights at its place in an official list whose third block opens stage 1."""
    state = {f"features.{block}.{key}": value for key, value in weights_of(triple).items()}
    nothing = torch.zeros(0)
    for index, key in ((1, "token_mixer.0.conv.c"), (2, "token_mixer.0.conv.c"), (3, "token_mixer.0.c")):
        state.setdefault(f"features.{index}.{key}.weight", nothing)
    return state


def test_unknown_size() -> None:
    with pytest.raises(CatalogError, match=r"'m0_7'.*Did you mean .*'m0_6'"):
        repvit("m0_7", 3)


@pytest.mark.parametrize("width", [0, -0.5, float("inf"), None, True])
def test_wrong_width(width: float) -> None:
    with pytest.raises(ArgumentError, match=r"repvit_m0_6: width must be a positive number"):
        repvit("m0_6", 3, width)
