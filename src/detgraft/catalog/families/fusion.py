"""Several inputs joined, in place of Concat."""

from __future__ import annotations

from detgraft.catalog.spec import Graft, Provenance

GRAFTS: tuple[Graft, ...] = (
    Graft(
        name="WeightedConcat",
        target="detgraft.blocks.bifpn:WeightedConcat",
        channels="concat",
        aliases=("BiFPN_Concat",),
        site="Concat",
        summary="concatenation with a learned weight per input (BiFPN's fast normalised fusion)",
        known_as=("Concat_BiFPN", "BiFPN_Concat2", "BiFPN_Concat3", "BiFPN"),
        provenance=Provenance(
            paper="EfficientDet: Scalable and Efficient Object Detection, CVPR 2020",
            source="github.com/google/automl",
            licence="Apache-2.0",
        ),
    ),
)
