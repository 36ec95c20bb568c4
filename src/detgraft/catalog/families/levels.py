"""Further levels of the feature pyramid; terms of an expression only, since they are many rows."""

from __future__ import annotations

from detgraft.catalog.spec import Graft, Provenance


def _stock(models: str) -> Provenance:
    """No paper describes the levels; the stock models that have them take its place."""
    return Provenance(paper=models, source="github.com/ultralytics/ultralytics", licence="AGPL-3.0")


GRAFTS: tuple[Graft, ...] = (
    Graft(
        name="p2",
        target="detgraft.plan.levels:p2",
        channels="structure",
        site="level",
        summary="a level of stride 4 for small objects, the neck extended in the base's own pattern",
        provenance=_stock("Ultralytics' own models with a level P2 (yolov8-p2.yaml and others)"),
    ),
    Graft(
        name="p6",
        target="detgraft.plan.levels:p6",
        channels="structure",
        site="level",
        summary="a level of stride 64 for large objects and pictures, the neck extended in the base's own pattern",
        provenance=_stock("Ultralytics' own models with a level P6 (yolov8-p6.yaml and others)"),
    ),
)
