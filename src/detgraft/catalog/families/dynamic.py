"""Convolutions whose kernel is mixed from several experts, alone and inside C3k2."""

from __future__ import annotations

from detgraft.catalog.spec import Filling, Graft, Provenance

_PARAMETERNET = Provenance(
    paper="ParameterNet: Parameters Are All You Need, CVPR 2024",
    source="github.com/huawei-noah/Efficient-AI-Backbones (parameternet)",
    licence="BSD-3-Clause",
)

GRAFTS: tuple[Graft, ...] = (
    Graft(
        name="DynamicConv",
        target="detgraft.blocks.dynamic_conv:DynamicConv",
        channels="scaled",
        repeats="stack",
        site="downsample",
        summary="dynamic convolution, 4 experts; the tutorial's form, without norm and activation",
        provenance=_PARAMETERNET,
    ),
    Graft(
        name="DynamicConv_official",
        target="detgraft.blocks.dynamic_conv:DynamicConvBNAct",
        channels="scaled",
        repeats="stack",
        site="downsample",
        summary="dynamic convolution, 4 experts, then batch norm and activation (official form)",
        provenance=_PARAMETERNET,
    ),
    Graft(
        name="C3k2_DynamicConv",
        target="detgraft.blocks.c3k2_dynamicconv:C3k2_DynamicConv",
        channels="scaled",
        repeats="inside",
        like="C3k2",
        site="C3k2",
        summary="C3k2 whose bottlenecks end in a dynamic convolution (the tutorial's form)",
        provenance=_PARAMETERNET,
        filling=Filling("C3k2", "DynamicConv", at="cv2"),
    ),
    Graft(
        name="C3k2_DynamicConv_official",
        target="detgraft.blocks.c3k2_dynamicconv:C3k2_DynamicConvBNAct",
        channels="scaled",
        repeats="inside",
        like="C3k2",
        site="C3k2",
        summary="C3k2 whose bottlenecks end in a dynamic convolution with batch norm and activation",
        provenance=_PARAMETERNET,
        filling=Filling("C3k2", "DynamicConv_official", at="cv2"),
    ),
)
