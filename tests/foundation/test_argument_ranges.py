"""The ranges of arguments are checked by detgraft too: older releases of Ultralytics take any number."""

from __future__ import annotations

from typing import Any

import pytest

from detgraft.errors import ArgumentError
from detgraft.upstream.model import values
from detgraft.upstream.model.values import check_values


@pytest.mark.trust
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("epochs", -1),
        ("epochs", None),
        ("epochs", 1.5),
        ("patience", -5),
        ("seed", -1),
        ("max_det", 0),
        ("opset", "x"),
        ("fraction", 0),
        ("fraction", 1.5),
        ("fraction", None),
        ("epochs", float("inf")),
        ("amp", "perhaps"),
        ("optimizer", 3),
    ],
)
def test_a_release_without_checks_is_no_excuse(key: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_refused", lambda _: "")
    with pytest.raises(ArgumentError, match=key):
        check_values("train", {key: value})


def test_what_is_right_passes_without_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_refused", lambda _: "")
    right = {
        "epochs": 1,
        "patience": 0,
        "opset": None,
        "fraction": 1.0,
        "amp": False,
        "cache": "ram",
        "optimizer": "SGD",
    }
    check_values("train", right)
