"""Blocks of networks, alone: behind the stages, or inside a shell; the channels stay."""

from __future__ import annotations

from detgraft.catalog.spec import Graft, Provenance

GRAFTS: tuple[Graft, ...] = (
    Graft(
        name="StarBlock",
        target="detgraft.blocks.star_block:StarBlock",
        channels="same",
        site="stage",
        at="bottleneck",
        summary="StarNet's block: two projections multiplied",
        known_as=("Star_Block", "StarNetBlock"),
        provenance=Provenance(
            paper="Rewrite the Stars, CVPR 2024",
            source="github.com/ma-xu/Rewrite-the-Stars",
            licence="Apache-2.0",
        ),
    ),
    Graft(
        name="iRMB",
        target="detgraft.blocks.irmb:IRMB",
        channels="same",
        site="stage",
        at="bottleneck",
        summary="attention over spread pixels, then a depthwise convolution",
        provenance=Provenance(
            paper="Rethinking Mobile Block for Efficient Attention-based Models, ICCV 2023",
            source="github.com/zhangzjn/EMO",
            licence="none stated",
        ),
    ),
    Graft(
        name="DWR",
        target="detgraft.blocks.dwr:DWR",
        channels="same",
        site="stage",
        at="bottleneck",
        summary="regions first, then depthwise kernels of three reaches",
        known_as=("DWRSeg",),
        provenance=Provenance(
            paper="DWRSeg: Rethinking Efficient Acquisition of Multi-scale Contextual Information, arXiv 2212.01173",
            source="the paper alone, without official code",
            licence="none stated",
        ),
    ),
    Graft(
        name="UniRepLKBlock",
        target="detgraft.blocks.unireplk_block:UniRepLKBlock",
        channels="same",
        site="stage",
        at="bottleneck",
        summary="large kernel with dilated ones beside it in training",
        known_as=("UniRepLKNetBlock",),
        provenance=Provenance(
            paper="UniRepLKNet: A Universal Perception Large-Kernel ConvNet, CVPR 2024",
            source="github.com/AILab-CVC/UniRepLKNet",
            licence="Apache-2.0",
        ),
    ),
    Graft(
        name="InceptionNeXtBlock",
        target="detgraft.blocks.inception_next_block:InceptionNeXtBlock",
        channels="same",
        site="stage",
        at="bottleneck",
        summary="a large kernel taken apart into a square and two strips",
        known_as=("MetaNeXtBlock",),
        provenance=Provenance(
            paper="InceptionNeXt: When Inception Meets ConvNeXt, CVPR 2024",
            source="github.com/sail-sg/inceptionnext",
            licence="Apache-2.0",
        ),
    ),
    Graft(
        name="ConvNeXtV2Block",
        target="detgraft.blocks.convnextv2_block:ConvNeXtV2Block",
        channels="same",
        site="stage",
        at="bottleneck",
        summary="ConvNeXt V2's block with global response norm",
        known_as=("ConvNextV2Block",),
        provenance=Provenance(
            paper="ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders, CVPR 2023",
            source="github.com/facebookresearch/ConvNeXt-V2",
            licence="MIT",
        ),
    ),
    Graft(
        name="RepViTBlock",
        target="detgraft.blocks.repvit_block:RepViTBlock",
        channels="same",
        aliases=("RepViTB",),
        site="stage",
        at="bottleneck",
        summary="re-parameterised depthwise convolution, excitation, channel mixer",
        provenance=Provenance(
            paper="RepViT: Revisiting Mobile CNN From ViT Perspective, CVPR 2024",
            source="github.com/THU-MIG/RepViT",
            licence="Apache-2.0",
        ),
    ),
)
