"""Whole stages, in place of C3k2."""

from __future__ import annotations

from detgraft.catalog.spec import Graft, Provenance

GRAFTS: tuple[Graft, ...] = (
    Graft(
        name="C3k2_Faster",
        target="detgraft.blocks.faster_block:C3k2_Faster",
        channels="scaled",
        repeats="inside",
        like="C3k2",
        site="C3k2",
        summary="C3k2 with FasterNet blocks (partial convolution)",
        provenance=Provenance(
            paper="Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks, CVPR 2023",
            source="github.com/JierunChen/FasterNet",
            licence="MIT",
        ),
    ),
)
