"""Every zoo model and every block of the catalogue passes (slow; the export part is scripts/export_matrix.py)."""

from __future__ import annotations

import pytest
from verify_support import run_check

from detgraft.catalog.listing import list_grafts
from detgraft.upstream.describe.resolve import zoo_yamls

pytestmark = pytest.mark.slow

IN_ONE_PROCESS = ("shapes", "gradients", "seeds", "fuse")
BACKBONES = ("convnextv2_atto", "repvit_m0_6", "unireplknet_a", "lsknet_t", "pkinet_t", "vanillanet_5")
# The other sizes differ in width and depth only


def _catalogue() -> list[str]:
    found = []
    for entry in list_grafts():
        if entry.channels in ("concat", "fuse") and not entry.site:
            continue  # joins levels of several sizes, which no single row of a base does
        if entry.name == "neck":
            continue  # another model's neck, which from= names
        if entry.channels != "pyramid" or entry.name in BACKBONES:
            site = "" if entry.site else "@backbone.3"
            found.append(f"yolo11n+{entry.name}{site}")
    return found


def _zoo() -> list[str]:
    return [name.replace("yolo11-", "yolo11n-") for name in zoo_yamls()]


@pytest.mark.parametrize("model", _catalogue())
def test_the_catalogue_passes(model: str) -> None:
    report = run_check(model, *IN_ONE_PROCESS, imgsz=128 if model.endswith("+p6") else 96)  # of stride 64
    assert report.passed, [(r.name, r.reason) for r in report.results if r.status == "fail"]


@pytest.mark.parametrize("model", _zoo())
def test_the_zoo_passes_every_check(model: str) -> None:
    report = run_check(model, imgsz=160)
    assert report.passed, [(r.name, r.reason) for r in report.results if r.status == "fail"]
