"""Blocks that a stage is made of, and stock shells made of them under a name of their own.

Any block goes into any shell, see `detgraft.catalog.shells`; these names are older than that rule.
"""

from __future__ import annotations

from detgraft.catalog.spec import Filling, Graft, Provenance

_FASTER = Provenance(
    paper="Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks, CVPR 2023",
    source="github.com/JierunChen/FasterNet",
    licence="MIT",
)

GRAFTS: tuple[Graft, ...] = (
    Graft(
        name="FasterBlock",
        target="detgraft.blocks.faster_block:FasterBlock",
        channels="same",
        repeats="stack",
        aliases=("Faster",),
        site="stage",
        at="bottleneck",
        summary="FasterNet's block: partial convolution, two 1x1 convolutions, shortcut",
        known_as=("Faster_Block",),
        provenance=_FASTER,
    ),
    Graft(
        name="C3k2_Faster",
        target="detgraft.blocks.faster_block:C3k2_Faster",
        channels="scaled",
        repeats="inside",
        like="C3k2",
        site="C3k2",
        summary="C3k2 with FasterNet blocks (partial convolution)",
        provenance=_FASTER,
        filling=Filling("C3k2", "FasterBlock", at="bottleneck"),
    ),
)
