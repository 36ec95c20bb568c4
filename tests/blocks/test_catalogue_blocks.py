"""The wider catalogue's blocks: equal to their official code, trainable, foldable, portable.

The numbers in ``tests/golden/blocks`` were computed by the official code (see ``scripts/make_block_triples.py``) at:
tiny-smart/dysample 81a1de5, YOLOonMe/EMA-attention-module afc37ec, Jongchan/attention-module 459efad (CBAM),
houqb/CoordAttention 7619bea, LabSAINT/SPD-Conv c09f792, AlanLi1997/slim-neck-by-gsconv 8357ef6,
JierunChen/FasterNet e8fba44, OSVAI/ODConv 0901cc1, StevenLauHKHK/Large-Separable-Kernel-Attention bb2a8d2,
ZjjConan/SimAM ae98f43, google/automl 6a54c87 (BiFPN), open-mmlab/mmcv a8073c7 (DCNv2), BangguWu/ECANet b332f6b,
wandahangFY/MLCA afbeb47, landskape-ai/triplet-attention 2cf02fb, wofmanaf/SA-Net 00a6760,
NUST-Machine-Intelligence-Laboratory/PKINet c1e72da (CAA), JN-Yang/PConv-SDloss-Data a801f04, Liuchen1997/RFAConv
363fd6b, wutianyiRosun/CGNet cfccea3, apple1986/HWD 03944d3, BGU-CS-VIL/WTConv 4a84da2, DingXiaoH/DiverseBranchBlock
8d2b16b, cheng-haha/ScConv deab5bb, CV-ZhangXin/LDConv cbccb6b, YaoleiQi/DSCNet d453499,
ma-xu/Rewrite-the-Stars c999eb5, sail-sg/inceptionnext 3f9769c, facebookresearch/ConvNeXt-V2 2553895, THU-MIG/RepViT
298f420, AILab-CVC/UniRepLKNet b5677d8, zhangzjn/EMO 27d9b40, microsoft/FocalNet e8514bd, HZAI-ZJNU/SCSA 8c46866,
rayleizhu/BiFormer 1697bbb, LeapLabTHU/DAT 32173fc, JIAOJIAYUASD/dilateformer 99f85bb, zcablii/LSKNet cbe06ca,
OpenGVLab/InternImage 31c962d, Linwei-Chen/FDConv bf7a33d.
"""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detgraft.blocks.bifpn import WeightedConcat
from detgraft.blocks.bilevel_routing import BiLevelRouting
from detgraft.blocks.caa import CAA
from detgraft.blocks.cbam import CBAM
from detgraft.blocks.context_guided import ContextGuidedDown
from detgraft.blocks.convnextv2_block import ConvNeXtV2Block
from detgraft.blocks.coord_attention import CoordAtt
from detgraft.blocks.dattention import DAttention
from detgraft.blocks.dcnv3 import DCNv3, DeformV3
from detgraft.blocks.deform_conv import DeformConv, DeformConvBNAct
from detgraft.blocks.dilated_attention import MSDA
from detgraft.blocks.diverse_branch import DiverseBranchConv
from detgraft.blocks.dwr import DWR
from detgraft.blocks.dysample import DySample
from detgraft.blocks.dysnake import DySnakeConv, SnakeStrip
from detgraft.blocks.eca import ECA, MLCA, kernel_for
from detgraft.blocks.ema import EMA
from detgraft.blocks.eucb import EUCB
from detgraft.blocks.faster_block import C3k2_Faster, FasterBlock, PConv
from detgraft.blocks.fdconv import FDConv, SpectralConv
from detgraft.blocks.focal_modulation import FocalModulation
from detgraft.blocks.gam import GAM
from detgraft.blocks.gsconv import GSConv
from detgraft.blocks.hwd import HWD
from detgraft.blocks.inception_next_block import InceptionNeXtBlock
from detgraft.blocks.irmb import IRMB
from detgraft.blocks.ldconv import LDConv
from detgraft.blocks.lsk_block import LSKBlock
from detgraft.blocks.lska import LSKA, LSKAAttention
from detgraft.blocks.odconv import ODConv, ODConvBNAct
from detgraft.blocks.parts.conv import ConvNormAct
from detgraft.blocks.pinwheel_conv import PinwheelConv
from detgraft.blocks.repvit_block import RepViTBlock
from detgraft.blocks.rfa_conv import RFAConv
from detgraft.blocks.scconv import SCConv
from detgraft.blocks.scsa import SCSA
from detgraft.blocks.se import SE
from detgraft.blocks.shuffle_attention import ShuffleAttention
from detgraft.blocks.simam import SimAM
from detgraft.blocks.spd_conv import SPDConv
from detgraft.blocks.star_block import StarBlock
from detgraft.blocks.triplet_attention import TripletAttention
from detgraft.blocks.unireplk_block import BRANCHES, UniRepLKBlock
from detgraft.blocks.wtconv import WTConv, WTConv2d
from detgraft.catalog.registry import catalogue
from detgraft.errors import ArgumentError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "blocks"


@dataclass(frozen=True)
class Case:
    """A block to try: how to build it, its input and output channels, its change of size, its stock of inputs."""

    build: Callable[[], nn.Module]
    c1: int = 16
    c2: int = 16
    stride: int = 1
    scale: int = 1
    inputs: int = 1
    jumps: bool = False  # a value that is rounded may fall on the other side of a threshold inside


CASES: dict[str, Case] = {
    "dysample": Case(lambda: DySample(16), scale=2),
    "dysample_pl_scope": Case(lambda: DySample(16, 2, "pl", 4, True), scale=2),
    "dysample_x3": Case(lambda: DySample(16, 3, "lp", 2, True), scale=3),
    "ema": Case(lambda: EMA(16, 4)),
    "cbam": Case(lambda: CBAM(16, 7, 4)),
    "coord_attention": Case(lambda: CoordAtt(16)),
    "simam": Case(lambda: SimAM(16)),
    "se": Case(lambda: SE(16, 4)),
    "eca": Case(lambda: ECA(16)),
    "mlca": Case(lambda: MLCA(16)),
    "triplet_attention": Case(lambda: TripletAttention(16)),
    "shuffle_attention": Case(lambda: ShuffleAttention(16, 4)),
    "caa": Case(lambda: CAA(16)),
    "lska": Case(lambda: LSKA(16, 11)),
    "lska_attention": Case(lambda: LSKAAttention(16, 23)),
    "spd_conv": Case(lambda: SPDConv(16, 24, 3, 2), c2=24, stride=2),
    "spd_conv_s3": Case(lambda: SPDConv(16, 24, 3, 3), c2=24, stride=3),
    "pinwheel_conv": Case(lambda: PinwheelConv(16, 24, 3, 2), c2=24, stride=2),
    "rfa_conv": Case(lambda: RFAConv(16, 24, 3, 2), c2=24, stride=2),
    "context_guided": Case(lambda: ContextGuidedDown(16, 24, 3, 2, reduction=4), c2=24, stride=2),
    "hwd": Case(lambda: HWD(16, 24), c2=24, stride=2),
    "wtconv": Case(lambda: WTConv(16, 24, 3, 2, 2), c2=24, stride=2),
    "diverse_branch": Case(lambda: DiverseBranchConv(16, 24, 3, 2), c2=24, stride=2),
    "diverse_branch_grouped": Case(lambda: DiverseBranchConv(16, 24, 5, 1, g=4), c2=24),
    "scconv": Case(lambda: SCConv(16), jumps=True),
    "ldconv": Case(lambda: LDConv(16, 24, 5, 2), c2=24, stride=2),
    "dysnake": Case(lambda: DySnakeConv(16, 24, 3, 2), c2=24, stride=2),
    "star_block": Case(lambda: StarBlock(16)),
    "inception_next_block": Case(lambda: InceptionNeXtBlock(16, scale=0.5)),
    "convnextv2_block": Case(lambda: ConvNeXtV2Block(16)),
    "repvit_block": Case(lambda: RepViTBlock(16)),
    "unireplk_block": Case(lambda: UniRepLKBlock(16, scale=0.5)),
    "unireplk_block_3": Case(lambda: UniRepLKBlock(16, 3, scale=0.5)),
    "irmb": Case(lambda: IRMB(16, head=4)),
    "dwr": Case(lambda: DWR(16)),
    "focal_modulation": Case(lambda: FocalModulation(16)),
    "scsa": Case(lambda: SCSA(16)),
    "bilevel_routing": Case(lambda: BiLevelRouting(16, 4, 3, 2), jumps=True),
    "gam": Case(lambda: GAM(16)),
    "dattention": Case(lambda: DAttention(16, 2, 3, 2, 4)),
    "msda": Case(lambda: MSDA(16)),
    "lsk_block": Case(lambda: LSKBlock(16)),
    "eucb": Case(lambda: EUCB(16), scale=2),
    "dcnv3": Case(lambda: DCNv3(16, 24, 3, 2), c2=24, stride=2),
    "fdconv": Case(lambda: FDConv(16, 24, 3, 2), c2=24, stride=2),
    "fdconv_pointwise": Case(lambda: FDConv(16, 24, 1), c2=24),
    "gsconv": Case(lambda: GSConv(16, 24, 3, 2), c2=24, stride=2),
    "odconv": Case(lambda: ODConv(16, 24, 3, 2), c2=24, stride=2),
    "odconv_grouped": Case(lambda: ODConv(16, 24, 3, 2, g=4, d=2), c2=24, stride=2),
    "odconv_depthwise": Case(lambda: ODConv(16, 16, 3, 1, g=16, experts=1)),
    "odconv_pointwise": Case(lambda: ODConv(16, 24, 1, 1, experts=1), c2=24),
    "odconv_bn_act": Case(lambda: ODConvBNAct(16, 24, 3, 2), c2=24, stride=2),
    "deform_conv": Case(lambda: DeformConv(16, 24, 3, 2), c2=24, stride=2),
    "deform_conv_grouped": Case(lambda: DeformConv(16, 24, 3, 2, g=2, d=2, deform_groups=4), c2=24, stride=2),
    "deform_conv_bn_act": Case(lambda: DeformConvBNAct(16, 24, 3, 2), c2=24, stride=2),
    "faster_block": Case(lambda: FasterBlock(16)),
    "c3k2_faster": Case(lambda: C3k2_Faster(16, 24, 2), c2=24),
    "c3k2_faster_c3k": Case(lambda: C3k2_Faster(16, 32, 1, True, 0.5, 2, False), c2=32),
    "weighted_concat": Case(lambda: WeightedConcat([16, 16, 16]), c2=48, inputs=3),
}
# The contract of tests/expressions tries these in the fast tests, too.
TWICE = {
    *("wtconv", "diverse_branch", "diverse_branch_grouped", "scconv", "ldconv"),
    *("dysnake", "star_block", "inception_next_block", "convnextv2_block", "repvit_block"),
    *("unireplk_block", "unireplk_block_3", "irmb", "dwr", "focal_modulation"),
    *("scsa", "bilevel_routing", "gam", "dattention", "msda"),
    *("lsk_block", "eucb", "dcnv3", "fdconv", "fdconv_pointwise"),
}
PATIENT = [pytest.param(name, marks=[pytest.mark.slow] if name in TWICE else []) for name in CASES]
FOLDABLE = [name for name, case in CASES.items() if any(isinstance(m, nn.BatchNorm2d) for m in case.build().modules())]


def make(name: str, *, randomise: bool = True) -> nn.Module:
    """Build a case; with ``randomise`` no parameter or statistic keeps a value that could hide an error."""
    torch.manual_seed(0)
    module = CASES[name].build()
    if randomise:
        for key, value in module.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point():
                value.add_(torch.randn_like(value) * (0.1 if value.ndim > 1 else 0.3))
    return module


def example(name: str, batch: int, height: int = 8, width: int = 12, device: str = "cpu") -> list[Tensor]:
    """Return the inputs of a case."""
    torch.manual_seed(batch)
    shape = (batch, CASES[name].c1, height, width)
    return [torch.randn(shape, device=device) for _ in range(CASES[name].inputs)]


def apply(module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """Call a block with its one input, or with the list of them."""
    output = module(inputs[0] if len(inputs) == 1 else list(inputs))
    assert isinstance(output, Tensor)
    return output


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Compare by the largest difference relative to the largest expected value."""
    assert found.shape == expected.shape
    peak = expected.abs().max().item()
    assert peak > 0
    assert (found - expected).abs().max().item() <= tolerance * peak


# ---- equal to the official code -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Golden:
    """How to build our block for one triple, and its keys: official prefix to our prefix."""

    build: Callable[[], nn.Module]
    keys: Mapping[str, str] | None = None
    inside: tuple[slice, ...] = ()  # the part of our output that the triple keeps


_OD = {"attention.fc.": "attention.squeeze.conv.", "attention.bn.": "attention.squeeze.bn."}
_CA = {"conv1.": "squeeze.conv.", "bn1.": "squeeze.bn."}
_RFA = {
    "get_weight.1.": "get_weight.",
    "generate_feature.0.": "generate_feature.conv.",
    "generate_feature.1.": "generate_feature.bn.",
    "conv.0.": "conv.conv.",
    "conv.1.": "conv.bn.",
}
_CG = {
    "conv1x1.": "down.",
    "F_loc.conv.": "local.",
    "F_sur.conv.": "surrounding.",
    "reduce.conv.": "reduce.",
    "F_glo.fc.0.": "channels.squeeze.",
    "F_glo.fc.2.": "channels.excite.",
}
_WT = {
    "base_conv.": "base.conv.",
    "base_scale.weight": "base.scale",
    **{f"wavelet_convs.{i}.": f"levels.{i}.conv." for i in range(3)},
    **{f"wavelet_scale.{i}.weight": f"levels.{i}.scale" for i in range(3)},
}
_DBB = {
    "dbb_origin.": "origin.",
    "dbb_1x1.": "branches.point.",
    "dbb_avg.conv.": "branches.mean_conv.",
    "dbb_avg.bn.bn.": "branches.mean_pad.bn.",
    "dbb_avg.avgbn.": "branches.mean_bn.",
    "dbb_1x1_kxk.idconv1.": "branches.deep_residual.",
    "dbb_1x1_kxk.bn1.bn.": "branches.deep_pad.bn.",
    "dbb_1x1_kxk.conv2.": "branches.deep.conv.",
    "dbb_1x1_kxk.bn2.": "branches.deep.bn.",
}
_SCCONV = {
    "SRU.gn.": "space.norm.",
    "CRU.": "channel.",
    "CRU.GWC.": "channel.group.",
    "CRU.PWC1.": "channel.point1.",
    "CRU.PWC2.": "channel.point2.",
}
_C_BN = (("c", "conv"), ("bn", "bn"))
_REPVIT = {
    "token_mixer.0.": "token_mixer.",
    "token_mixer.0.conv.c.": "token_mixer.conv.conv.",
    "token_mixer.1.fc1.": "se.squeeze.",
    "token_mixer.1.fc2.": "se.excite.",
    **{f"channel_mixer.m.{i}.{a}.": f"{ours}.{b}." for i, ours in ((0, "expand"), (2, "reduce")) for a, b in _C_BN},
}
_IRMB = {
    "qk.conv.": "qk.",
    "v.conv.": "v.",
    "conv_local.conv.": "local.conv.",
    "conv_local.norm.": "local.bn.",
    "proj.conv.": "proj.",
}
_SCSA = {
    "local_dwc.": "strips.0.",
    "global_dwc_s.": "strips.1.",
    "global_dwc_m.": "strips.2.",
    "global_dwc_l.": "strips.3.",
}
_DAT = {
    "conv_offset.0.": "offset_conv.",
    "conv_offset.1.norm.": "offset_norm.",
    "conv_offset.3.": "offset_point.",
    "rpe_table.": "position.",
}


def _unireplk(k: int) -> dict[str, str]:
    small = {f"dwconv.dil_{a}_k{size}_{d}.": f"dwconv.branches.{i}.{a}." for i, (size, d) in enumerate(BRANCHES[k])
             for a in ("conv", "bn")}  # fmt: skip
    return small | {
        "norm.": "dwconv.norm.",
        "se.down.": "se.squeeze.",
        "se.up.": "se.excite.",
        "pwconv1.1.": "pwconv1.",
        "act.1.": "grn.",
        "pwconv2.0.": "pwconv2.conv.",
        "pwconv2.2.": "pwconv2.bn.",
    }


_FD = {
    "dft_weight": "weight",
    "KSM_Global.fc.": "squeeze.conv.",
    "KSM_Global.bn.": "squeeze.bn.",
    "KSM_Global.relu.": "squeeze.act.",
    "KSM_Global.": "",
    "KSM_Local.": "local_",
    "FBM.freq_weight_conv_list.": "bands.gates.",
}
_SNAKE = {"dsc_conv_x.": "conv.", "dsc_conv_y.": "conv."}
_TRIPLET = {
    "ChannelGateH.spatial.": "rows.",
    "ChannelGateW.spatial.": "columns.",
    "SpatialGate.spatial.": "pixels.",
}
_CBAM = {"ChannelGate.mlp.1.": "channel.0.", "ChannelGate.mlp.3.": "channel.2.", "SpatialGate.spatial.": "spatial."}
_FASTER = {
    "mlp.0.": "expand.conv.",
    "mlp.1.": "expand.bn.",
    "mlp.3.": "reduce.",
    "spatial_mixing.partial_conv3.": "spatial_mixing.conv.",
}


def _relu6_unit() -> nn.Module:
    module = ODConvBNAct(8, 12, 3, 2)
    module.act = nn.ReLU6()
    return module


GOLDENS: dict[str, Golden] = {
    "dysample": Golden(lambda: DySample(16, 2, "lp", 4, False)),
    "dysample_scope": Golden(lambda: DySample(16, 2, "lp", 4, True)),
    "dysample_pl": Golden(lambda: DySample(16, 2, "pl", 4, False)),
    "dysample_pl_scope": Golden(lambda: DySample(16, 2, "pl", 4, True)),
    "ema": Golden(lambda: EMA(24, 8)),
    "cbam": Golden(lambda: CBAM(32, 7, 16), _CBAM),
    "coord_attention": Golden(lambda: CoordAtt(16, 32), _CA),
    "simam": Golden(lambda: SimAM(8)),
    **{f"lska_{k}": Golden(lambda k=k: LSKA(6, k)) for k in (7, 11, 23, 35, 41, 53)},
    "lska_attention": Golden(lambda: LSKAAttention(6, 11), {"spatial_gating_unit.": "lska."}),
    "spd_conv": Golden(lambda: SPDConv(8, 12, 3, 2), {"1.": "conv."}),
    "gsconv": Golden(lambda: GSConv(8, 12, 3, 2)),
    "odconv": Golden(lambda: ODConv(8, 12, 3, 2), _OD),
    "odconv_grouped": Golden(lambda: ODConv(8, 12, 3, 1, g=2), _OD),
    "odconv_depthwise": Golden(lambda: ODConv(8, 8, 3, 1, g=8, experts=2), _OD),
    "odconv_pointwise": Golden(lambda: ODConv(8, 12, 1, 1, experts=1), _OD),
    "odconv_bn_act": Golden(
        _relu6_unit, {f"0.{a}": f"conv.{b}" for a, b in _OD.items()} | {"0.": "conv.", "1.": "bn."}
    ),
    "deform_conv": Golden(lambda: DeformConv(8, 12, 3, 2, deform_groups=2)),
    "faster_block": Golden(lambda: FasterBlock(16), _FASTER),
    "eca": Golden(lambda: ECA(24, 5)),
    "mlca": Golden(lambda: MLCA(24)),
    "triplet_attention": Golden(lambda: TripletAttention(12), _TRIPLET),
    "triplet_attention_no_spatial": Golden(lambda: TripletAttention(12, spatial=False), _TRIPLET),
    "shuffle_attention": Golden(lambda: ShuffleAttention(24, 3)),
    "caa": Golden(lambda: CAA(12), {"factor.h_conv.conv.": "h_conv.", "factor.v_conv.conv.": "v_conv.", "factor.": ""}),
    "pinwheel_conv": Golden(lambda: PinwheelConv(8, 12, 3, 2)),
    "rfa_conv": Golden(lambda: RFAConv(6, 12, 3, 2), _RFA),
    "context_guided": Golden(lambda: ContextGuidedDown(8, 16, reduction=4), _CG),
    "hwd": Golden(lambda: HWD(6, 12), {"conv_bn_relu.0.": "conv.conv.", "conv_bn_relu.1.": "conv.bn."}),
    "wtconv": Golden(lambda: WTConv2d(6, 5), _WT),
    "wtconv_3": Golden(lambda: WTConv2d(6, 5, levels=3), _WT),
    "diverse_branch": Golden(lambda: DiverseBranchConv(8, 12, 3, 2, act=False), _DBB),
    "diverse_branch_grouped": Golden(lambda: DiverseBranchConv(8, 12, 3, 2, g=2, act=False), _DBB),
    "scconv": Golden(lambda: SCConv(16), _SCCONV),
    "ldconv": Golden(
        lambda: LDConv(6, 12, 5, 2),
        {"conv.0.": "conv.conv.", "conv.1.": "conv.bn.", "p_conv.": "offset."},
        (slice(None), slice(None), slice(3, 9), slice(3, 11)),
    ),
    "snake_row": Golden(lambda: SnakeStrip(6, 12, 5, along="rows"), _SNAKE),
    "snake_column": Golden(lambda: SnakeStrip(6, 12, 5, along="columns"), _SNAKE),
    "star_block": Golden(lambda: StarBlock(12), {f"{name}.conv.": f"{name}." for name in ("f1", "f2", "dwconv2")}),
    "inception_next_block": Golden(lambda: InceptionNeXtBlock(16), {"mlp.": ""}),
    "convnextv2_block": Golden(lambda: ConvNeXtV2Block(8)),
    "repvit_block": Golden(lambda: RepViTBlock(32), _REPVIT),
    "repvit_block_plain": Golden(lambda: RepViTBlock(32, se=False), _REPVIT),
    "unireplk_block_7": Golden(lambda: UniRepLKBlock(8, 7), _unireplk(7)),
    "unireplk_block_13": Golden(lambda: UniRepLKBlock(8, 13), _unireplk(13)),
    "irmb": Golden(lambda: IRMB(16, 2, window=4, head=8), _IRMB),
    "focal_modulation": Golden(
        lambda: FocalModulation(12),
        {"f.": "project_in.", **{f"focal_layers.{i}.0.": f"focal_layers.{i}." for i in range(2)}},
    ),
    "scsa": Golden(lambda: SCSA(16, 4, 3), _SCSA),
    "bilevel_routing": Golden(lambda: BiLevelRouting(16, 4, 3, 2), {"qkv.qkv.": "qkv."}),
    "dattention": Golden(lambda: DAttention(16, 2, 5, 2, 4), _DAT),
    "msda": Golden(lambda: MSDA(24, 6, dilations=3)),
    "lsk_block": Golden(lambda: LSKBlock(12)),
    "dcnv3": Golden(lambda: DeformV3(16, groups=2), {"dw_conv.0.": "dw_conv.", "dw_conv.1.1.": "norm."}),
    "fdconv": Golden(lambda: SpectralConv(6, 8), _FD),
    "fdconv_pointwise": Golden(lambda: SpectralConv(6, 8, 1), _FD),
    "weighted_concat": Golden(lambda: WeightedConcat([8, 8, 8]), {"WSM": "weight"}),
}


def load_official(module: nn.Module, arrays: Mapping[str, np.ndarray], keys: Mapping[str, str]) -> None:
    """Load official weights under our names; every parameter and statistic must be given."""
    state: dict[str, Tensor] = {}
    for name in (key.removeprefix("w/") for key in arrays if key.startswith("w/")):
        value = torch.from_numpy(arrays[f"w/{name}"])
        prefix = max((old for old in keys if name.startswith(old)), key=len, default="")
        state[keys.get(prefix, "") + name.removeprefix(prefix)] = value
    for name, unit in module.named_modules():  # a bias, officially, that the norm behind it takes away again
        if isinstance(unit, ConvNormAct) and f"{name}.conv.bias" in state:
            mean = f"{name}.bn.running_mean"
            state[mean] = state[mean] - state.pop(f"{name}.conv.bias")
    for key, value in module.state_dict().items():  # a linear layer or a k x k convolution that is a 1x1 one here
        if key in state and state[key].numel() == value.numel():
            state[key] = state[key].reshape(value.shape)
    if isinstance(module, SpectralConv):  # frequencies equally far from zero: officially in no fixed order
        assert (module.band != torch.from_numpy(arrays["band"])).float().mean() < 0.02
        module.band.copy_(torch.from_numpy(arrays["band"]))
    if isinstance(module, DySample):  # follows from the arguments here
        assert torch.equal(module.init_pos, state.pop("init_pos"))
    for key, value in module.state_dict().items():
        if key.endswith("num_batches_tracked"):
            state[key] = value
    module.load_state_dict(state, strict=True)


@pytest.mark.parametrize("name", GOLDENS)
def test_equals_the_official_code(name: str) -> None:
    arrays = dict(np.load(GOLDEN / f"{name}.npz"))
    module = GOLDENS[name].build().eval()
    load_official(module, arrays, GOLDENS[name].keys or {})
    x, expected = torch.from_numpy(arrays["input"]), torch.from_numpy(arrays["output"])
    with torch.no_grad():
        if isinstance(module, WeightedConcat):  # officially the weighted inputs are added, here they are joined
            found = torch.stack(module(list(x)).chunk(3, 1)).sum(0)
        else:
            found = module(x)[GOLDENS[name].inside]
    assert_close(found, expected)


def test_se_equals_timms() -> None:
    from timm.layers import SqueezeExcite

    ours, theirs = SE(32, 4).eval(), SqueezeExcite(32, rd_channels=8).eval()
    theirs.load_state_dict(
        {k.replace("squeeze", "fc1").replace("excite", "fc2"): v for k, v in ours.state_dict().items()}
    )
    x = torch.randn(2, 32, 5, 7)
    assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(("channels", "kernel"), [(64, 3), (128, 5), (256, 5), (512, 5), (1024, 5)])
def test_ecas_kernel_follows_from_the_channels(channels: int, kernel: int) -> None:
    """The paper's formula with gamma 2 and b 1: the values that its official ResNet settings are made of."""
    assert kernel_for(channels) == kernel
    assert ECA(channels).conv.kernel_size == (kernel,)


@pytest.mark.parametrize("size", [(5, 5), (9, 12), (3, 4), (20, 7)])
def test_mlca_pools_as_adaptive_pooling_does(size: tuple[int, int]) -> None:
    from detgraft.blocks.eca import _means

    x = torch.randn(2, 3, *size)
    rows, columns = _means(5, size[0], x), _means(5, size[1], x)
    assert_close(rows.t() @ x @ columns, F.adaptive_avg_pool2d(x, 5))


# ---- the contract every block keeps ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [1, 3])
def test_every_parameter_learns(name: str, batch: int) -> None:
    module = make(name).train()
    inputs = [x.requires_grad_() for x in example(name, batch)]
    generator_state = torch.get_rng_state()
    output = apply(module, inputs)
    assert torch.equal(torch.get_rng_state(), generator_state), "the forward draws random numbers"
    (output * torch.randn_like(output)).sum().backward()
    silent = [key for key, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    if batch == 1 and isinstance(module, (ODConv, ODConvBNAct)):
        silent = [key for key in silent if ".squeeze." not in key]  # one picture may leave every hidden unit below zero
    assert not silent
    assert all(x.grad is not None and x.grad.isfinite().all() for x in inputs)


@pytest.mark.parametrize("name", CASES)
def test_mixed_precision(name: str) -> None:
    module, inputs = make(name).train(), [x.requires_grad_() for x in example(name, 2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        apply(module, inputs).float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in [*module.parameters(), *inputs])
    module.eval()
    with torch.no_grad():
        exact = apply(module, inputs)
        for other in (module, copy.deepcopy(module).bfloat16()):
            dtype = torch.float32 if other is module else torch.bfloat16
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=other is module):
                found = apply(other, [x.to(dtype) for x in inputs]).float()
            if CASES[name].jumps:
                assert (found - exact).abs().quantile(0.9) <= 0.05 * exact.abs().max()
            else:
                assert_close(found, exact, 0.05)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [(8, 12), (7, 9), (1, 1), (5, 1)])
def test_any_size(name: str, size: tuple[int, int]) -> None:
    case = CASES[name]
    with torch.no_grad():
        output = apply(make(name).eval(), example(name, 2, *size))
    height, width = (math.ceil(side / case.stride) * case.scale for side in size)
    assert output.shape == (2, case.c2, height, width)
    assert output.isfinite().all()


@pytest.mark.parametrize("name", PATIENT)
def test_shapes_on_the_meta_device(name: str) -> None:
    case = CASES[name]
    output = apply(make(name).to("meta").train(), example(name, 2, device="meta"))
    height, width = (math.ceil(side / case.stride) * case.scale for side in (8, 12))
    assert output.shape == (2, case.c2, height, width)


@pytest.mark.parametrize("name", CASES)
def test_pictures_of_a_batch_do_not_mix(name: str) -> None:
    module, inputs = make(name).eval(), example(name, 3)
    with torch.no_grad():
        together = apply(module, inputs)
        alone = torch.cat([apply(module, [x[i : i + 1] for x in inputs]) for i in range(3)])
    assert_close(alone, together)


@pytest.mark.parametrize("name", FOLDABLE)
def test_fuse_folds_every_batch_norm(name: str) -> None:
    module, inputs = make(name).eval(), example(name, 2, 7, 9)
    with torch.no_grad():
        expected = apply(module, inputs)
        for _ in range(2):  # twice: folding again changes nothing
            module = module.fuse()  # type: ignore[operator]
            assert not any(isinstance(m, nn.BatchNorm2d) for m in module.modules())
            assert_close(apply(module, inputs), expected)


@pytest.mark.parametrize("name", PATIENT)
def test_copies_and_pickles(name: str) -> None:
    module, inputs = make(name).eval(), example(name, 2)
    with torch.no_grad():
        expected = apply(module, inputs)
        for other in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
            assert list(other.state_dict()) == list(module.state_dict())
            assert torch.equal(apply(other, inputs), expected)


class Spread(nn.Module):
    """Takes a list of inputs one by one, as an exported graph does."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Tensor) -> Tensor:
        return apply(self.inner, inputs)


@pytest.mark.parametrize(
    ("name", "fused"),
    [
        pytest.param(n, fused, id=f"{n}-{fused}", marks=[pytest.mark.slow] if n in TWICE else [])
        for n, fused in [*((name, False) for name in CASES), *((name, True) for name in FOLDABLE)]
    ],
)
def test_exports_to_onnx_for_any_batch_and_size(name: str, fused: bool) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    module = make(name).eval()
    if fused:
        module = module.fuse()  # type: ignore[operator]
    names = [f"x{i}" for i in range(CASES[name].inputs)]
    file = io.BytesIO()
    torch.onnx.export(
        Spread(module).eval(),
        tuple(example(name, 2)),
        file,
        opset_version=17,
        input_names=names,
        output_names=["y"],
        dynamic_axes={key: {0: "batch", 2: f"height_{key[0]}", 3: f"width_{key[0]}"} for key in [*names, "y"]},
        dynamo=False,
    )
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for batch, height, width in ((1, 8, 12), (2, 8, 12), (5, 8, 12), (2, 7, 15)):
        inputs = example(name, batch, height, width)
        with torch.no_grad():
            expected = apply(module, inputs)
        (found,) = session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))
        assert_close(torch.from_numpy(found), expected, 5e-5)


# ---- what is particular to one block --------------------------------------------------------------------------------


def test_dysample_starts_as_bilinear_upsampling() -> None:
    module = DySample(8, 2, dyscope=True)  # a predicted scope of zero halves offsets that start near zero
    nn.init.zeros_(module.offset.weight)
    x = torch.randn(2, 8, 5, 7)
    assert_close(module(x), F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))


def test_dysample_keeps_its_positions_in_half_precision() -> None:
    torch.manual_seed(0)
    module = DySample(4, 2, groups=1).eval()
    x = torch.randn(1, 4, 2, 1000)
    with torch.no_grad():
        expected = module(x)
        found = copy.deepcopy(module).half()(x.half())
    assert found.dtype == torch.float16
    assert (found.float() - expected).abs().max() < 0.02  # steps of half a pixel would be off by more than 1


def test_simam_in_half_precision_does_not_overflow() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 4, 64, 64) * 300  # squares and their sum are beyond the largest float16
    assert_close(SimAM(4)(x.half()).float(), SimAM(4)(x.half().float()), 1e-3)


def test_odconv_trains_on_one_picture_by_its_running_statistics() -> None:
    module = make("odconv_bn_act").train()
    inner = module.conv  # type: ignore[union-attr]
    before = inner.attention.squeeze.bn.running_mean.clone()
    x = example("odconv_bn_act", 1)[0]
    expected = copy.deepcopy(inner).eval()(x)
    assert_close(inner(x), expected)
    assert torch.equal(inner.attention.squeeze.bn.running_mean, before)
    inner(torch.cat((x, -x)))
    assert not torch.equal(inner.attention.squeeze.bn.running_mean, before)


def test_deform_conv_starts_as_half_a_convolution() -> None:
    module = DeformConv(8, 12, 3, 2, d=2, bias=False)
    x = torch.randn(2, 8, 9, 11)
    assert_close(module(x), 0.5 * F.conv2d(x, module.weight, None, 2, module.p, 2))


def test_deform_conv_survives_what_is_not_a_number() -> None:
    """A diverged training, or the uninitialised picture with which Ultralytics counts operations."""
    module = DeformConv(8, 12, 3, 2)
    with torch.no_grad():
        module.conv_offset.weight.normal_()
        module.conv_offset.weight[0] *= float("inf")
    x = torch.randn(2, 8, 40, 40).masked_fill(torch.rand(2, 8, 40, 40) < 0.1, float("nan")).requires_grad_()
    y = module(x)
    assert y.isnan().any()
    y.sum().backward()


def test_weighted_concat_shares_are_never_negative() -> None:
    module = WeightedConcat([2, 3])
    module.weight.data = torch.tensor([-1.0, 3.0])
    output = module([torch.ones(1, 2, 4, 4), torch.ones(1, 3, 4, 4)])
    assert output[:, :2].abs().max() == 0
    assert torch.allclose(output[:, 2:], torch.tensor(3 / 3.0001))


def test_c3k2_faster_has_the_outer_structure_of_c3k2() -> None:
    from ultralytics.nn.modules import C3k2

    ours = make("c3k2_faster").eval()
    stock = C3k2(16, 24, 2, False, 0.5).eval()
    stock.m = ours.m
    outer = {key: value for key, value in ours.state_dict().items() if not key.startswith("m.")}
    assert list(outer) == [key for key in stock.state_dict() if not key.startswith("m.")]
    stock.load_state_dict(outer, strict=False)
    x = example("c3k2_faster", 2)[0]
    with torch.no_grad():
        assert torch.equal(stock(x), ours(x))


@pytest.mark.parametrize(
    ("build", "convs"), [(lambda: DiverseBranchConv(8, 12, 3, 2), 1), (lambda: UniRepLKBlock(8, 13).dwconv, 1),
                         (lambda: RepViTBlock(8).token_mixer, 1)]
)  # fmt: skip
def test_branches_become_one_convolution(build: Callable[[], nn.Module], convs: int) -> None:
    module = build()
    assert sum(isinstance(m, nn.Conv2d) for m in module.modules()) > convs
    fused = module.eval().fuse()  # type: ignore[operator]
    assert sum(isinstance(m, nn.Conv2d) for m in fused.modules()) == convs


def test_gam_by_the_papers_formula() -> None:
    """There is no official code: channel weights by a perceptron over each pixel, then pixel weights by 7x7 kernels."""
    module = make("gam").eval()
    assert isinstance(module, GAM)
    x = example("gam", 2)[0]
    first, second = (getattr(module, name).weight.flatten(1) for name in ("squeeze", "excite"))
    hidden = F.relu(x.permute(0, 2, 3, 1) @ first.t() + module.squeeze.bias) @ second.t() + module.excite.bias
    middle = x * hidden.sigmoid().permute(0, 3, 1, 2)
    expected = middle
    for unit in (module.spatial1, module.spatial2):
        bn = unit.bn
        assert isinstance(bn, nn.BatchNorm2d)
        expected = F.conv2d(expected, unit.conv.weight, padding=3)
        expected = F.batch_norm(expected, bn.running_mean, bn.running_var, bn.weight, bn.bias)
        expected = F.relu(expected) if unit is module.spatial1 else expected
    assert_close(module(x), middle * expected.sigmoid())


def test_eucb_by_the_papers_formula() -> None:
    module = make("eucb").eval()
    assert isinstance(module, EUCB)
    x, bn = example("eucb", 2)[0], module.smooth.bn
    assert isinstance(bn, nn.BatchNorm2d)
    expected = F.conv2d(x.repeat_interleave(2, 2).repeat_interleave(2, 3), module.smooth.conv.weight, None, 1, 1, 1, 16)
    expected = F.relu(F.batch_norm(expected, bn.running_mean, bn.running_var, bn.weight, bn.bias))
    assert_close(module(x), F.conv2d(expected, module.mix.weight, module.mix.bias))


def test_wtconv_sees_farther_with_each_level() -> None:
    x = torch.zeros(1, 1, 33, 33, requires_grad=True)
    reach = []
    for levels in (1, 2, 3):
        (gradient,) = torch.autograd.grad(WTConv2d(1, 3, 1, levels)(x)[0, 0, 16, 16], x)
        reach.append(int((gradient[0, 0].abs().sum(0) > 0).sum()))
    assert reach[0] < reach[1] < reach[2]


def test_ldconv_starts_as_close_to_a_square_as_its_points_allow() -> None:
    """Five points: two rows of two, and one below; read through a picture of its own indices."""
    module = LDConv(1, 5, 5, 1, act=False)
    assert module.offset.bias is not None
    nn.init.zeros_(module.offset.bias)
    module.conv.conv.weight.data = torch.eye(5)[..., None, None]
    x = torch.arange(100.0).reshape(1, 1, 10, 10)
    found = module.eval().fuse()(x)[0, :, 4, 3]
    assert_close(found, torch.tensor([43.0, 44.0, 53.0, 54.0, 63.0]), 1e-3)


def test_the_adown_of_the_catalogue_is_ultralytics_own() -> None:
    from ultralytics.nn.modules import ADown

    assert catalogue.get("adown").load() is ADown


def test_pconv_leaves_the_other_channels_alone() -> None:
    module = PConv(8)
    x = torch.randn(2, 8, 5, 5)
    output = module(x)
    assert torch.equal(output[:, 2:], x[:, 2:])
    assert_close(output[:, :2], F.conv2d(x[:, :2], module.conv.weight, padding=1))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: DySample(16, style="lpp"), "did you mean 'lp'"),
        (lambda: DySample(18, groups=4), "c1=18"),
        (lambda: DySample(6, style="pl", groups=1), "multiple of scale * scale = 4"),
        (lambda: DySample(16, scale=0), "scale must be"),
        (lambda: EMA(20, 8), "factor=8"),
        (lambda: EMA(16, 0), "factor must be"),
        (lambda: CBAM(16, 4), "k must be odd"),
        (lambda: CoordAtt(16, 0), "reduction must be"),
        (lambda: SimAM(16, 0.0), "e_lambda must be above 0"),
        (lambda: LSKA(16, 9), "7, 11, 23, 35, 41, 53"),
        (lambda: LSKAAttention(16, 9), "7, 11, 23, 35, 41, 53"),
        (lambda: SPDConv(16, 24, 3, 0), "s must be"),
        (lambda: SPDConv(16, 24, 3, 2, g=5), "g=5"),
        (lambda: GSConv(16, 23), "c2=23"),
        (lambda: GSConv(16, 24, 3, 2, -1), "p must be None"),
        (lambda: GSConv(16, 24, 3, g=5), "c1=16"),
        (lambda: ODConv(16, 24, 3, g=3), "g=3"),
        (lambda: ODConv(16, 24, 3, reduction=0.0), "reduction must be above 0"),
        (lambda: ODConvBNAct(16, 24, 3, temperature=-1.0), "temperature must be above 0"),
        (lambda: ODConvBNAct(16, 24, 3, experts=0), "experts must be"),
        (lambda: DeformConv(16, 24, deform_groups=3), "deform_groups=3"),
        (lambda: DeformConvBNAct(16, 24, 3, 2, g=7), "g=7"),
        (lambda: FasterBlock(16, mlp_ratio=0.01), "no hidden channel"),
        (lambda: PConv(16, 4, 3), "g=3"),
        (lambda: C3k2_Faster(16, 24, 0), "n must be"),
        (lambda: C3k2_Faster(16, 2, 1, True, 0.5), "hidden channels"),
        (lambda: WTConv(16, 24, 4), "k must be odd"),
        (lambda: DiverseBranchConv(16, 24, 3, p=0), "p must be None or 1"),
        (lambda: SCConv(12, 8), "groups=8"),
        (lambda: SCConv(16, alpha=1.0), "alpha and threshold"),
        (lambda: LDConv(16, 24, 0), "points must be"),
        (lambda: DySnakeConv(16, 22), "c2=22"),
        (lambda: InceptionNeXtBlock(2), "at least 4"),
        (lambda: UniRepLKBlock(16, 6), "3, 5, 7, 9, 11, 13, 15, 17"),
        (lambda: IRMB(16, head=5), "head=5"),
        (lambda: DWR(15), "c1=15"),
        (lambda: FocalModulation(16, 4), "window must be odd"),
        (lambda: SCSA(20), "heads=8"),
        (lambda: BiLevelRouting(16, 4, 1, 2), "topk=2"),
        (lambda: DAttention(16, groups=3), "groups=3"),
        (lambda: MSDA(16, 6), "heads=6"),
        (lambda: LSKBlock(15), "c1=15"),
        (lambda: DCNv3(16, 22), "groups=4"),
        (lambda: EUCB(16, 0), "scale must be"),
        (lambda: FDConv(16, 24, 5), "k must be 1 or 3"),
        (lambda: FDConv(16, 24, g=2), "g must be 1"),
        (lambda: GAM(16, 0), "reduction must be"),
        (lambda: WeightedConcat([]), "channels must list"),
        (lambda: WeightedConcat([8, 0]), "channels must be"),
        (lambda: WeightedConcat([8], 2), "dimension must be 1"),
        (lambda: WeightedConcat([8], eps=0.0), "eps must be above 0"),
    ],
)
def test_wrong_values_are_named(build: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        build()
    assert words.lower() in str(caught.value).lower()
