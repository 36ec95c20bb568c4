"""What the checks' tests share."""

from __future__ import annotations

from typing import Any

from detgraft.verify.check import check
from detgraft.verify.result import Report


def run_check(model: Any, *only: str, imgsz: int = 64, **words: Any) -> Report:
    """Run checks at a small size."""
    return check(model, imgsz=imgsz, only=only, **words)


def only_failure(model: Any, name: str) -> str:
    """Run one check, which must fail, and return its reason."""
    result = run_check(model, name)[name]
    assert result.status == "fail", result
    return result.reason
