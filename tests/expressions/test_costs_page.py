"""docs/costs.md is generated: every graft has a row, and the figures are those of the models."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from expression_support import needs_base

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
PAGE = ROOT / "docs" / "costs.md"


def cells_of(heading: str, name: str) -> str:
    """The row of a term in the table below a heading, without its name."""
    text = PAGE.read_text("utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return next(line for line in text.splitlines() if line.startswith(f"| `{name}` |")).partition("` |")[2]


def test_every_graft_has_a_row() -> None:
    import make_costs

    text = PAGE.read_text("utf-8")
    names = [
        *make_costs.leaves(),
        *make_costs.backbones(),
        *(t for group in make_costs.terms().values() for t in group),
    ]
    assert [name for name in names if f"| `{name}` |" not in text] == []
    inside = text.partition("## Shells")[2].partition("\n## ")[0]
    resizing = {"CARAFE", "CARAFE_official", "DySample", "EUCB", "HWD", "ADown"}  # refused inside a shell
    assert {name for name in make_costs.inner() if f"| `{name}` |" not in inside} <= resizing


@pytest.mark.parametrize(
    ("heading", "name", "expression"),
    [
        ("Shells and the block inside", "SE", "yolo11n+c3k2(SE)"),
        ("Necks", "bifpn", "yolov8n+bifpn"),
        ("Levels", "p2", "yolov8n+p2"),
    ],
)
def test_a_row_is_what_the_model_costs(heading: str, name: str, expression: str) -> None:
    import make_costs

    needs_base(expression.partition("+")[0])
    stock = make_costs.cost(expression.partition("+")[0])
    assert make_costs.cells(make_costs.cost(expression), stock).strip(" |") in cells_of(heading, name)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_page_is_up_to_date() -> None:
    import make_costs

    needs_base("yolo26n")
    needs_base("yolo12n")
    found = make_costs.page({expression: make_costs.cost(expression) for expression in make_costs.expressions()})
    rows = [line for line in found.splitlines() if line.startswith("|")]
    assert rows == [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
