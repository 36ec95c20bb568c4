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
        known_as=("EMA_attention", "EMAttention"),
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
        spelling="Repositories that give the reduction first write [16]; here it comes second, as in CBAM, [7, 16]",
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
        known_as=("CA", "CoordinateAttention", "CA_Block"),
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
        known_as=("LSKAttention", "LSKA_Attention"),
        provenance=_LSKA,
    ),
    Graft(
        name="SE",
        target="detgraft.blocks.se:SE",
        channels="same",
        aliases=("SEAttention",),
        site="stage",
        summary="squeeze and excitation: a factor per channel",
        provenance=Provenance(
            paper="Squeeze-and-Excitation Networks, CVPR 2018",
            source="github.com/hujie-frank/SENet",
            licence="Apache-2.0",
        ),
    ),
    Graft(
        name="ECA",
        target="detgraft.blocks.eca:ECA",
        channels="same",
        aliases=("ECAAttention",),
        site="stage",
        summary="efficient channel attention",
        provenance=Provenance(
            paper="ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks, CVPR 2020",
            source="github.com/BangguWu/ECANet",
            licence="MIT",
        ),
    ),
    Graft(
        name="MLCA",
        target="detgraft.blocks.eca:MLCA",
        channels="same",
        site="stage",
        summary="mixed local channel attention",
        provenance=Provenance(
            paper="Mixed local channel attention for object detection, Engineering Applications of AI 2023",
            source="github.com/wandahangFY/MLCA",
            licence="GPL-3.0",
        ),
    ),
    Graft(
        name="TripletAttention",
        target="detgraft.blocks.triplet_attention:TripletAttention",
        channels="same",
        aliases=("Triplet",),
        site="stage",
        summary="the same gate over each pair of axes",
        provenance=Provenance(
            paper="Rotate to Attend: Convolutional Triplet Attention Module, WACV 2021",
            source="github.com/landskape-ai/triplet-attention",
            licence="MIT",
        ),
    ),
    Graft(
        name="ShuffleAttention",
        target="detgraft.blocks.shuffle_attention:ShuffleAttention",
        channels="same",
        site="stage",
        summary="channel and pixel attention in groups, shuffled",
        provenance=Provenance(
            paper="SA-Net: Shuffle Attention for Deep Convolutional Neural Networks, ICASSP 2021",
            source="github.com/wofmanaf/SA-Net",
            licence="none stated",
        ),
    ),
    Graft(
        name="CAA",
        target="detgraft.blocks.caa:CAA",
        channels="same",
        site="stage",
        summary="context anchor attention: long strips along each axis",
        provenance=Provenance(
            paper="Poly Kernel Inception Network for Remote Sensing Detection, CVPR 2024",
            source="github.com/NUST-Machine-Intelligence-Laboratory/PKINet",
            licence="Apache-2.0",
        ),
    ),
)
