"""Several inputs joined: in place of Concat, or in rows of their own."""

from __future__ import annotations

from detgraft.catalog.spec import Graft, Provenance

_EFFICIENTDET = Provenance(
    paper="EfficientDet: Scalable and Efficient Object Detection, CVPR 2020",
    source="github.com/google/automl",
    licence="Apache-2.0",
)
_ASF = Provenance(
    paper="ASF-YOLO: attentional scale sequence fusion for cell instance segmentation, Image and Vision Computing 2024",
    source="github.com/mkang315/ASF-YOLO",
    licence="AGPL-3.0",
)
_HSFPN = Provenance(
    paper="Accurate leukocyte detection (MFDS-DETR), Computers in Biology and Medicine 2024",
    source="github.com/JustlfC03/MFDS-DETR",
    licence="none stated",
)

GRAFTS: tuple[Graft, ...] = (
    Graft(
        name="WeightedConcat",
        target="detgraft.blocks.bifpn:WeightedConcat",
        channels="concat",
        aliases=("BiFPN_Concat",),
        site="Concat",
        summary="concatenation with a learned weight per input (BiFPN's fast normalised fusion)",
        known_as=("Concat_BiFPN", "BiFPN_Concat2", "BiFPN_Concat3", "BiFPN"),
        provenance=_EFFICIENTDET,
    ),
    Graft(
        name="BiFPNAdd",
        target="detgraft.blocks.bifpn:BiFPNAdd",
        channels="fuse",
        site="Concat",
        summary="sum with a learned weight per input (BiFPN's fast normalised fusion)",
        known_as=("BiFPN_Add", "BiFPN_Add2", "BiFPN_Add3"),
        provenance=_EFFICIENTDET,
    ),
    Graft(
        name="BiFPNConv",
        target="detgraft.blocks.bifpn:BiFPNConv",
        channels="scaled",
        repeats="stack",
        site="C3k2",
        drops=("c3k", "e", "n"),
        summary="activation, separable convolution, batch norm: what follows each sum in BiFPN",
        provenance=_EFFICIENTDET,
    ),
    Graft(
        name="CGAFusion",
        target="detgraft.blocks.cga_fusion:CGAFusion",
        channels="fuse",
        site="Concat",
        summary="two features mixed by content-guided attention",
        known_as=("CGA_Fusion", "CGAFusionModule"),
        provenance=Provenance(
            paper="DEA-Net: Single image dehazing based on content-guided attention, IEEE TIP 2024",
            source="github.com/cecret3350/DEA-Net",
            licence="none stated",
        ),
    ),
    Graft(
        name="SDI",
        target="detgraft.blocks.sdi:SDI",
        channels="fuse",
        site="Concat",
        summary="levels brought to the first one's size and multiplied",
        provenance=Provenance(
            paper="U-Net v2: Rethinking the Skip Connections of U-Net for Medical Image Segmentation, ISBI 2025",
            source="github.com/yaoppeng/U-Net_v2",
            licence="none stated",
        ),
    ),
    Graft(
        name="SpatialFusion",
        target="detgraft.blocks.afpn:SpatialFusion",
        channels="fuse",
        site="Concat",
        summary="sum with shares that each pixel decides (AFPN's adaptive spatial fusion)",
        known_as=("ASFF_2", "ASFF_3", "ASFF_4"),
        provenance=Provenance(
            paper="AFPN: Asymptotic Feature Pyramid Network for Object Detection, IEEE SMC 2023",
            source="github.com/gyyang23/AFPN",
            licence="none stated",
        ),
    ),
    Graft(
        name="SelectiveFusion",
        target="detgraft.blocks.hsfpn:SelectiveFusion",
        channels="fuse",
        site="Concat",
        summary="a level's channels filtered by a higher level, which is added (HS-FPN)",
        provenance=_HSFPN,
    ),
    Graft(
        name="ScalSeq",
        target="detgraft.blocks.asf:ScalSeq",
        channels="fuse",
        summary="scale sequence fusion: several levels at the finest one's size (ASF-YOLO)",
        known_as=("SSFF", "ScaleSequence"),
        provenance=_ASF,
    ),
    Graft(
        name="CPAM",
        target="detgraft.blocks.asf:CPAM",
        channels="fuse",
        site="Concat",
        summary="channel and position attention over two features (ASF-YOLO)",
        known_as=("attention_model", "asf_attention_model"),
        provenance=_ASF,
    ),
    Graft(
        name="Zoom_cat",
        target="detgraft.blocks.asf:Zoom_cat",
        channels="concat",
        aliases=("ZoomCat",),
        summary="a larger and a smaller map joined at the middle one's size (ASF-YOLO)",
        known_as=("TFE",),
        provenance=_ASF,
    ),
    Graft(
        name="ChannelSelect",
        target="detgraft.blocks.hsfpn:ChannelSelect",
        channels="same",
        site="stage",
        summary="channels weighed by their means and maxima (HS-FPN's feature selection)",
        known_as=("ChannelAttention_HSFPN",),
        provenance=_HSFPN,
    ),
    Graft(
        name="AFPNBlock",
        target="detgraft.blocks.afpn:AFPNBlock",
        channels="same",
        repeats="stack",
        site="stage",
        summary="two 3x3 convolutions with a shortcut (AFPN)",
        provenance=Provenance(
            paper="AFPN: Asymptotic Feature Pyramid Network for Object Detection, IEEE SMC 2023",
            source="github.com/gyyang23/AFPN",
            licence="none stated",
        ),
    ),
    Graft(
        name="VoVGSCSP",
        target="detgraft.blocks.slim_neck:VoVGSCSP",
        channels="scaled",
        repeats="inside",
        site="C3k2",
        drops=("c3k",),
        summary="cross stage partial block of GSConv bottlenecks (slim-neck)",
        provenance=Provenance(
            paper="Slim-neck by GSConv, Journal of Real-Time Image Processing 2024",
            source="github.com/AlanLi1997/slim-neck-by-gsconv",
            licence="GPL-3.0",
        ),
    ),
    Graft(
        name="CSPStage",
        target="detgraft.blocks.gfpn:CSPStage",
        channels="scaled",
        repeats="inside",
        site="C3k2",
        drops=("c3k", "e"),  # its own ratio has another meaning
        summary="cross stage partial block of re-parameterised units (RepGFPN)",
        provenance=Provenance(
            paper="DAMO-YOLO: A Report on Real-Time Object Detection Design, arXiv 2211.15444",
            source="github.com/tinyvision/DAMO-YOLO",
            licence="Apache-2.0",
        ),
    ),
)
