"""Attention after the stages; the channels stay."""

from __future__ import annotations

from detgraft.catalog.spec import Graft, Provenance

_LSKA = Provenance(
    paper="Large Separable Kernel Attention, Expert Systems with Applications 2024",
    source="github.com/StevenLauHKHK/Large-Separable-Kernel-Attention",
    licence="Apache-2.0",
)

GRAFTS: tuple[Graft, ...] = (
    Graft(
        name="EMA",
        target="detgraft.blocks.ema:EMA",
        channels="same",
        site="stage",
        summary="efficient multi-scale attention",
        provenance=Provenance(
            paper="Efficient Multi-Scale Attention Module with Cross-Spatial Learning, ICASSP 2023",
            source="github.com/YOLOonMe/EMA-attention-module",
            licence="none stated",
        ),
    ),
    Graft(
        name="CBAM",
        target="detgraft.blocks.cbam:CBAM",
        channels="same",
        site="stage",
        summary="channel, then spatial attention",
        provenance=Provenance(
            paper="CBAM: Convolutional Block Attention Module, ECCV 2018",
            source="github.com/Jongchan/attention-module",
            licence="MIT",
        ),
    ),
    Graft(
        name="CoordAtt",
        target="detgraft.blocks.coord_attention:CoordAtt",
        channels="same",
        aliases=("CoordAttention",),
        site="stage",
        summary="coordinate attention",
        provenance=Provenance(
            paper="Coordinate Attention for Efficient Mobile Network Design, CVPR 2021",
            source="github.com/houqb/CoordAttention",
            licence="MIT",
        ),
    ),
    Graft(
        name="SimAM",
        target="detgraft.blocks.simam:SimAM",
        channels="same",
        site="stage",
        summary="attention without parameters",
        provenance=Provenance(
            paper="SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks, ICML 2021",
            source="github.com/ZjjConan/SimAM",
            licence="none stated",
        ),
    ),
    Graft(
        name="LSKA",
        target="detgraft.blocks.lska:LSKA",
        channels="same",
        site="stage",
        summary="large separable kernel gate, without residual",
        provenance=_LSKA,
    ),
    Graft(
        name="LSKAAttention",
        target="detgraft.blocks.lska:LSKAAttention",
        channels="same",
        site="stage",
        summary="large separable kernel attention",
        provenance=_LSKA,
    ),
)
