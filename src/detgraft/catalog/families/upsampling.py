"""In place of the neck's nearest upsampling."""

from __future__ import annotations

from detgraft.catalog.spec import Graft, Provenance

_CARAFE = Provenance(
    paper="CARAFE: Content-Aware ReAssembly of FEatures, ICCV 2019",
    source="github.com/open-mmlab/mmcv (ops/carafe.py)",
    licence="Apache-2.0",
)

GRAFTS: tuple[Graft, ...] = (
    Graft(
        name="CARAFE",
        target="detgraft.blocks.carafe:CARAFE",
        channels="same",
        site="upsample",
        summary="content-aware upsampling; the form used with YOLO (batch norms in the kernel predictor)",
        known_as=("CARAFEPack", "CARAFEUpsample"),
        spelling=(
            "Repositories that write [channels, kernel, factor] use one kernel for both steps; their [256, 3, 2] is "
            "CARAFE, [3, 3, 64, 2] here"
        ),
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
    Graft(
        name="DySample",
        target="detgraft.blocks.dysample:DySample",
        channels="same",
        site="upsample",
        summary="upsampling by learned sampling points",
        known_as=("DySampleUp", "DySample_UP"),
        provenance=Provenance(
            paper="Learning to Upsample by Learning to Sample, ICCV 2023",
            source="github.com/tiny-smart/dysample",
            licence="MIT",
        ),
    ),
    Graft(
        name="EUCB",
        target="detgraft.blocks.eucb:EUCB",
        channels="same",
        site="upsample",
        summary="nearest upsampling, then depthwise and 1x1 convolutions",
        provenance=Provenance(
            paper="EMCAD: Efficient Multi-scale Convolutional Attention Decoding, CVPR 2024",
            source="github.com/SLDGroup/EMCAD",
            licence="research only",
        ),
    ),
)
