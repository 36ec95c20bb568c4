"""Between the neck and the head: a list of features in, a list of features out, while the head stays stock."""

from __future__ import annotations

from detgraft.catalog.spec import Graft, Provenance

GRAFTS: tuple[Graft, ...] = (
    Graft(
        name="DyHead",
        target="detgraft.blocks.dyhead:DyHead",
        channels="refine",
        site="before the head",
        summary="dynamic head: attention over scales, places and tasks",
        provenance=Provenance(
            paper="Dynamic Head: Unifying Object Detection Heads with Attentions, CVPR 2021",
            source="github.com/microsoft/DynamicHead",
            licence="MIT",
        ),
        known_as=("DyHeadBlock", "Detect_DyHead"),
    ),
    Graft(
        name="ASFF",
        target="detgraft.blocks.asff:ASFF",
        channels="refine",
        site="before the head",
        summary="adaptively spatial feature fusion: each level a weighted sum of all, pixel by pixel",
        provenance=Provenance(
            paper="Learning Spatial Fusion for Single-Shot Object Detection, arXiv 1911.09516",
            source="github.com/GOATmessi7/ASFF",
            licence="GPL-3.0 (own form from the paper)",
        ),
        known_as=("ASFF2", "ASFF3", "Detect_ASFF"),
    ),
)
