"""Every level and refiner on every head: odd sizes, gradients, fusing, and the exported model (slow)."""

from __future__ import annotations

import pytest
from verify_support import run_check

from detgraft.upstream.describe.resolve import locate

pytestmark = pytest.mark.slow

BASES = (
    *(f"{base}{head}" for base in ("yolov8n", "yolo11n", "yolo26n") for head in ("", "-seg", "-pose", "-obb")),
    "rtdetr-l",
)


@pytest.mark.parametrize("graft", ["p2", "p6", "asff", "dyhead"])
@pytest.mark.parametrize("base", BASES)
def test_it_passes(base: str, graft: str) -> None:
    if locate(f"{base}.yaml") is None:
        pytest.skip(f"this release of Ultralytics has no {base}")
    if (base, graft) == ("yolo26n-seg", "p2"):
        pytest.skip("refused: its masks could not be compared with the truth")
    report = run_check(f"{base}+{graft}", "shapes", "gradients", "fuse", "export", imgsz=128)
    assert report.passed, [(r.name, r.reason) for r in report.results if r.status == "fail"]
