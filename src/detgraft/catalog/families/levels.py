"""Further levels of the feature pyramid; terms of an expression only, since they are many rows."""

from __future__ import annotations

from detgraft.catalog.spec import Graft

GRAFTS: tuple[Graft, ...] = (
    Graft(
        name="p2",
        target="detgraft.plan.levels:p2",
        channels="structure",
        site="level",
        summary="a level of stride 4 for small objects, the neck extended in the base's own pattern",
    ),
    Graft(
        name="p6",
        target="detgraft.plan.levels:p6",
        channels="structure",
        site="level",
        summary="a level of stride 64 for large objects and pictures, the neck extended in the base's own pattern",
    ),
)
