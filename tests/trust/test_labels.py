"""One rule for label rows: in training from a folder and in `detgraft check`."""

from __future__ import annotations

from pathlib import Path

import pytest

from detgraft.datasets.labels import row_fault
from detgraft.errors import DataError
from detgraft.upstream.model.data import prepare_data

pytestmark = pytest.mark.trust

BAD = (
    ("0 0.1 0.1 1.5 0.1 0.5 0.5", "lies outside of the picture"),
    ("0 0.1 0.1 0.5 0.1 0.5", "for a box, or at least 3 pairs"),
    ("0 0.2 0.3 0.2 0.5 0.2 0.7", "polygon is empty"),
    ("0 0.5 0.5 0 0.2", "box is empty"),
    ("0 0.5 0.5 0.2 0", "box is empty"),
    ("0 0.5 0.5 -0.1 0.2", "expected a box"),
    ("0 0.5 0.5 nan 0.2", "expected numbers only"),
    ("0 0.5 0.5 0.2 inf", "expected numbers only"),
    ("0.5 0.5 0.5 0.2 0.2", "class index"),
    ("-1 0.5 0.5 0.2 0.2", "class index"),
    ("0 320 240 100 50", "relative to the picture"),
)


@pytest.mark.parametrize(("row", "said"), BAD)
def test_a_bad_row_is_refused_by_the_rule_and_before_a_training(row: str, said: str, tmp_path: Path) -> None:
    fault = row_fault(row)
    assert fault is not None
    assert said in fault.text
    assert not fault.usable
    for split in ("train", "val"):
        for part in ("images", "labels"):
            (tmp_path / "set" / part / split).mkdir(parents=True)
        (tmp_path / "set" / "images" / split / "p.png").write_bytes(b"")
        (tmp_path / "set" / "labels" / split / "p.txt").write_text(f"0 0.5 0.5 0.2 0.2\n{row}\n", "utf-8")
    with pytest.raises(DataError, match="line 2") as caught:
        prepare_data(str(tmp_path / "set"), "detect", tmp_path / "runs")
    assert said in str(caught.value)


@pytest.mark.parametrize("row", ["0 0.5 0.5 1 1", "2 0.1 0.1 0.5 0.1 0.5 0.5", "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5"])
def test_good_rows_pass(row: str) -> None:
    assert row_fault(row, 3) is None


def test_a_box_over_the_edge_is_said_and_can_be_trained_with() -> None:
    fault = row_fault("0 0.9 0.5 0.3 0.2")
    assert fault is not None
    assert "reaches outside" in fault.text
    assert fault.usable


def test_key_points_have_their_own_numbers() -> None:
    good = "0 0.5 0.5 0.2 0.2 0.5 0.5 2 0.4 0.4 0"
    assert row_fault(good, 1, [2, 3]) is None
    for row, said in (
        (good.replace(" 2 0.4", " 3 0.4"), "visibility"),
        (good.replace("0.4 0.4 0", "1.4 0.4 0"), "key point coordinate"),
        (good + " 0.1", "2 key points of 3"),
        (good.replace("0.2 0.2", "0 0.2"), "box is empty"),
    ):
        fault = row_fault(row, 1, [2, 3])
        assert fault is not None
        assert said in fault.text


def test_a_class_beyond_the_data_sets_is_found() -> None:
    fault = row_fault("7 0.5 0.5 0.2 0.2", 3)
    assert fault is not None
    assert "classes 0 to 2" in fault.text
