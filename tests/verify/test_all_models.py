"""Every zoo model and every block of the catalogue passes (slow; the export part is scripts/export_matrix.py)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from verify_support import run_check

from detgraft.upstream.describe.resolve import zoo_yamls

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from export_matrix import models, side

pytestmark = pytest.mark.slow

IN_ONE_PROCESS = ("shapes", "gradients", "seeds", "fuse")
CATALOGUE = models("yolo11n")[1:]  # without the stock model


def _zoo() -> list[str]:
    return [name.replace("yolo11-", "yolo11n-") for name in zoo_yamls()]


@pytest.mark.parametrize(("block", "model"), CATALOGUE, ids=[model for _, model in CATALOGUE])
def test_the_catalogue_passes(block: str, model: str) -> None:
    report = run_check(model, *IN_ONE_PROCESS, imgsz=side(block, 96))
    assert report.passed, [(r.name, r.reason) for r in report.results if r.status == "fail"]


@pytest.mark.parametrize("model", _zoo())
def test_the_zoo_passes_every_check(model: str) -> None:
    report = run_check(model, imgsz=160)
    assert report.passed, [(r.name, r.reason) for r in report.results if r.status == "fail"]
