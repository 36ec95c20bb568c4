"""In place of the strided convolutions after the stem."""

from __future__ import annotations

from detgraft.catalog.spec import Graft, Provenance

GRAFTS: tuple[Graft, ...] = (
    Graft(
        name="SPDConv",
        target="detgraft.blocks.spd_conv:SPDConv",
        channels="scaled",
        repeats="stack",
        site="downsample",
        summary="space to depth, then a convolution without stride",
        known_as=("space_to_depth", "SPD"),
        provenance=Provenance(
            paper="No More Strided Convolutions or Pooling, ECML PKDD 2022",
            source="github.com/LabSAINT/SPD-Conv",
            licence="MIT",
        ),
    ),
    Graft(
        name="GSConv",
        target="detgraft.blocks.gsconv:GSConv",
        channels="scaled",
        repeats="stack",
        site="downsample",
        summary="half dense, half depthwise convolution, shuffled",
        provenance=Provenance(
            paper="Slim-neck by GSConv, Journal of Real-Time Image Processing 2024",
            source="github.com/AlanLi1997/slim-neck-by-gsconv",
            licence="AGPL-3.0",
        ),
    ),
    Graft(
        name="ODConv",
        target="detgraft.blocks.odconv:ODConvBNAct",
        channels="scaled",
        repeats="stack",
        site="downsample",
        summary="omni-dimensional dynamic convolution, batch norm and activation",
        known_as=("ODConv2d", "ODConv_3rd"),
        provenance=Provenance(
            paper="Omni-Dimensional Dynamic Convolution, ICLR 2022",
            source="github.com/OSVAI/ODConv",
            licence="Apache-2.0",
        ),
    ),
    Graft(
        name="DeformConv",
        target="detgraft.blocks.deform_conv:DeformConvBNAct",
        channels="scaled",
        repeats="stack",
        aliases=("DCNv2",),
        site="downsample",
        summary="modulated deformable convolution (v2), batch norm and activation",
        known_as=("DCN", "DCNv2_Conv", "DeformableConv"),
        provenance=Provenance(
            paper="Deformable ConvNets v2: More Deformable, Better Results, CVPR 2019",
            source="github.com/open-mmlab/mmcv",
            licence="Apache-2.0",
        ),
    ),
    Graft(
        name="PinwheelConv",
        target="detgraft.blocks.pinwheel_conv:PinwheelConv",
        channels="scaled",
        repeats="stack",
        site="downsample",
        summary="four strips from the pixel outwards",
        provenance=Provenance(
            paper="Pinwheel-shaped Convolution and Scale-based Dynamic Loss, AAAI 2025",
            source="github.com/JN-Yang/PConv-SDloss-Data",
            licence="MIT",
        ),
    ),
    Graft(
        name="RFAConv",
        target="detgraft.blocks.rfa_conv:RFAConv",
        channels="scaled",
        repeats="stack",
        site="downsample",
        summary="weighs the pixels of each window before the kernel",
        provenance=Provenance(
            paper="RFAConv: Innovating Spatial Attention and Standard Convolutional Operation, arXiv 2304.03198",
            source="github.com/Liuchen1997/RFAConv",
            licence="none stated",
        ),
    ),
    Graft(
        name="ContextGuidedDown",
        target="detgraft.blocks.context_guided:ContextGuidedDown",
        channels="scaled",
        repeats="stack",
        aliases=("ContextGuidedBlock_Down",),
        site="downsample",
        summary="local and wider views, weighed by the whole picture",
        provenance=Provenance(
            paper="CGNet: A Light-weight Context Guided Network for Semantic Segmentation, IEEE TIP 2021",
            source="github.com/wutianyiRosun/CGNet",
            licence="MIT",
        ),
    ),
    Graft(
        name="HWD",
        target="detgraft.blocks.hwd:HWD",
        channels="scaled",
        aliases=("Down_wt",),
        site="downsample",
        drops=("k",),
        summary="Haar wavelet downsampling",
        provenance=Provenance(
            paper="Haar wavelet downsampling, Pattern Recognition 2023",
            source="github.com/apple1986/HWD",
            licence="none stated",
        ),
    ),
)
