"""What a message proposes."""

from __future__ import annotations

import pytest

from detgraft.errors import nearest_names


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("a.pt", ["fake.pt", "aa.pt"], ["aa.pt"]),
        ("model.yaml", ["data.yaml", "modle.yaml"], ["modle.yaml"]),
        ("best.pt", ["last.pt"], ["last.pt"]),
        ("data.yml", ["data.yaml"], ["data.yaml"]),
        ("picture", ["pictures", "a.txt"], ["pictures"]),
        ("Carafee", ["CARAFE"], ["CARAFE"]),
    ],
)
def test_a_shared_ending_makes_no_names_alike(name: str, known: list[str], expected: list[str]) -> None:
    assert nearest_names(name, known) == expected
