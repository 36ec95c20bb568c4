"""docs/bases.md: names every stock model of its release, and says what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import ultralytics

from detgraft.errors import PlanError
from detgraft.upstream.describe.expressions import compose_mapping
from detgraft.upstream.release.capabilities import stock_yamls

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "bases.md").read_text(encoding="utf-8")


@pytest.mark.skipif(f"ultralytics {ultralytics.__version__}," not in PAGE, reason="the page is of another release")
def test_every_stock_model_has_a_row() -> None:
    rows = re.findall(r"^\| (\S+) \|(?! backbone)", PAGE, re.MULTILINE)
    assert [row for row in rows if row != "model"] == sorted(name.removesuffix(".yaml") for name in stock_yamls())


@pytest.mark.parametrize("expression", ["yolo11-cls+asff", "yolo11-cls+p2", "yolov3-tiny+p6"])
def test_the_reason_is_what_the_error_says(expression: str) -> None:
    base = expression.partition("+")[0]
    with pytest.raises(PlanError) as caught:
        compose_mapping(expression)
    assert str(caught.value).partition(": ")[2].replace(base, "it") in PAGE
