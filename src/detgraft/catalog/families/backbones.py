"""Backbones: the whole feature pyramid in one row. Any model of timm is one, too, by its own name (``timm/NAME``)."""

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


_OTHERS = {
    "unireplknet": (
        "UniRepLKNet",
        ("a", "f", "p", "n", "t", "s", "b", "l", "xl"),
        Provenance(
            paper="UniRepLKNet: A Universal Perception Large-Kernel ConvNet, CVPR 2024",
            source="github.com/AILab-CVC/UniRepLKNet",
            licence="Apache-2.0",
        ),
    ),
    "lsknet": (
        "LSKNet",
        ("t", "s"),
        Provenance(
            paper="Large Selective Kernel Network for Remote Sensing Object Detection, ICCV 2023",
            source="github.com/zcablii/LSKNet",
            licence="CC-BY-NC-4.0",
        ),
    ),
    "pkinet": (
        "PKINet",
        ("t", "s", "b"),
        Provenance(
            paper="Poly Kernel Inception Network for Remote Sensing Detection, CVPR 2024",
            source="github.com/NUST-Machine-Intelligence-Laboratory/PKINet",
            licence="Apache-2.0",
        ),
    ),
    "vanillanet": (
        "VanillaNet",
        ("5", "6", "7", "8", "9", "10", "11", "12", "13", "13_x1_5"),
        Provenance(
            paper="VanillaNet: the Power of Minimalism in Deep Learning, NeurIPS 2023",
            source="github.com/huawei-noah/VanillaNet",
            licence="MIT",
        ),
    ),
}


def _without_weights(family: str) -> tuple[Graft, ...]:
    """The sizes of a backbone that timm does not have; published weights cannot be loaded into it."""
    title, sizes, provenance = _OTHERS[family]
    return tuple(
        Graft(
            name=f"{family}_{size}",
            target=f"detgraft.blocks.backbones.{family}:{family}",
            channels="pyramid",
            preset={"size": size},
            site="backbone",
            summary=f"{title} backbone, size {size}",
            provenance=provenance,
        )
        for size in sizes
    )


GRAFTS: tuple[Graft, ...] = (
    *(_convnextv2(size) for size in ("atto", "femto")),
    _convnextv2("pico", "convnext_pico"),  # one tutorial uses the official function's name, another the regular one
    *(_convnextv2(size) for size in ("nano", "tiny", "base", "large", "huge")),
    *(_repvit(size) for size in ("m0_6", "m0_9", "m1_0", "m1_1", "m1_5", "m2_3")),
    *(graft for family in _OTHERS for graft in _without_weights(family)),
)
