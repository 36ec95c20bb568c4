"""The grafts that ship with detgraft. Data only; the classes are imported when a model needs them."""

from __future__ import annotations

from detgraft.catalog.spec import Graft, Provenance

_CONVNEXTV2 = Provenance(
    paper="ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders, CVPR 2023",
    source="github.com/facebookresearch/ConvNeXt-V2",
    licence="MIT",
    weights_licence="CC-BY-NC-4.0",
)
_REPVIT = Provenance(
    paper="RepViT: Revisiting Mobile CNN From ViT Perspective, CVPR 2024",
    source="github.com/THU-MIG/RepViT",
    licence="Apache-2.0",
    weights_licence="Apache-2.0",
)
_DYNAMIC = Provenance(
    paper="ParameterNet: Parameters Are All You Need, CVPR 2024",
    source="github.com/huawei-noah/Efficient-AI-Backbones (parameternet)",
    licence="BSD-3-Clause",
)
_CARAFE = Provenance(
    paper="CARAFE: Content-Aware ReAssembly of FEatures, ICCV 2019",
    source="github.com/open-mmlab/mmcv (ops/carafe.py)",
    licence="Apache-2.0",
)


def _convnextv2(size: str, *aliases: str) -> Graft:
    return Graft(
        name=f"convnextv2_{size}",
        target="detgraft.blocks.backbones.convnextv2:convnextv2",
        channels="pyramid",
        aliases=aliases,
        preset={"size": size},
        site="backbone",
        summary=f"ConvNeXt V2 backbone, size {size}",
        provenance=_CONVNEXTV2,
        takes_weights=True,
    )


def _repvit(size: str) -> Graft:
    return Graft(
        name=f"repvit_{size}",
        target="detgraft.blocks.backbones.repvit:repvit",
        channels="pyramid",
        preset={"size": size},
        site="backbone",
        summary=f"RepViT backbone, size {size}",
        provenance=_REPVIT,
        takes_weights=True,
    )


BUILTIN: tuple[Graft, ...] = (
    *(_convnextv2(size) for size in ("atto", "femto")),
    _convnextv2("pico", "convnext_pico"),  # one tutorial uses the official function's name, another the regular one
    *(_convnextv2(size) for size in ("nano", "tiny", "base", "large", "huge")),
    *(_repvit(size) for size in ("m0_6", "m0_9", "m1_0", "m1_1", "m1_5", "m2_3")),
    Graft(
        name="DynamicConv",
        target="detgraft.blocks.dynamic_conv:DynamicConv",
        channels="scaled",
        repeats="stack",
        site="downsample",
        summary="dynamic convolution, 4 experts; the tutorial's form, without norm and activation",
        provenance=_DYNAMIC,
    ),
    Graft(
        name="DynamicConv_official",
        target="detgraft.blocks.dynamic_conv:DynamicConvBNAct",
        channels="scaled",
        repeats="stack",
        site="downsample",
        summary="dynamic convolution, 4 experts, then batch norm and activation (official form)",
        provenance=_DYNAMIC,
    ),
    Graft(
        name="C3k2_DynamicConv",
        target="detgraft.blocks.c3k2_dynamicconv:C3k2_DynamicConv",
        channels="scaled",
        repeats="inside",
        like="C3k2",
        site="C3k2",
        summary="C3k2 whose bottlenecks end in a dynamic convolution (the tutorial's form)",
        provenance=_DYNAMIC,
    ),
    Graft(
        name="C3k2_DynamicConv_official",
        target="detgraft.blocks.c3k2_dynamicconv:C3k2_DynamicConvBNAct",
        channels="scaled",
        repeats="inside",
        like="C3k2",
        site="C3k2",
        summary="C3k2 whose bottlenecks end in a dynamic convolution with batch norm and activation",
        provenance=_DYNAMIC,
    ),
    Graft(
        name="CARAFE",
        target="detgraft.blocks.carafe:CARAFE",
        channels="same",
        site="upsample",
        summary="content-aware upsampling; the form used with YOLO (batch norms in the kernel predictor)",
        provenance=_CARAFE,
    ),
    Graft(
        name="CARAFE_official",
        target="detgraft.blocks.carafe:CARAFEOfficial",
        channels="same",
        site="upsample",
        summary="content-aware upsampling; the official form (plain convolutions with bias)",
        provenance=_CARAFE,
    ),
)
