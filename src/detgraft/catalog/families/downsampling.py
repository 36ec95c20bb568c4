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
        provenance=Provenance(
            paper="Deformable ConvNets v2: More Deformable, Better Results, CVPR 2019",
            source="github.com/open-mmlab/mmcv",
            licence="Apache-2.0",
        ),
    ),
)
