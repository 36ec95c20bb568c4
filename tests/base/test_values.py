"""One reader of plain values, whoever writes them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from detgraft.base.values import read_scalar, read_value
from detgraft.cli.arguments import parse_pairs
from detgraft.plan.expression import parse_expression
from detgraft.study.design.spec import spec_from_arguments

SCALARS = [
    ("3", 3),
    ("-3", -3),
    ("+3", 3),
    ("0.5", 0.5),
    (".5", 0.5),
    ("1.", 1.0),
    ("1e-3", 0.001),
    ("2E4", 20000.0),
    ("true", True),
    ("FALSE", False),
    ("none", None),
    ("wide", "wide"),
    ("007", "007"),
    ("nan", "nan"),
    ("inf", "inf"),
    ("1e999", math.inf),
    ("1_000", "1_000"),
    ("３", "３"),
    ("", ""),
    ("9" * 300, int("9" * 300)),
]


@pytest.mark.parametrize(("text", "value"), SCALARS, ids=[text[:12] for text, _ in SCALARS])
def test_a_scalar(text: str, value: Any) -> None:
    found = read_scalar(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("text", "value"), SCALARS[:16], ids=[text[:12] for text, _ in SCALARS[:16]])
def test_expression_and_command_line_read_alike(text: str, value: Any) -> None:
    assert parse_expression(f"yolo11n+carafe(k={text})").grafts[0].keywords == {"k": value}
    assert parse_pairs([f"k={text}"]) == {"k": value}


def test_lists_quotes_and_what_is_no_plain_value() -> None:
    assert read_value("0,1") == (0, 1)
    assert read_value("[0.5, 'a']") == [0.5, "a"]
    assert read_value("'3'") == "3"
    assert read_value("{'a': 1}") == {"a": 1}
    for text in ("...", "1+2j", "b'x'", "__import__('os')", "[" * 1000, "[...]", "a,b", "9" * 5000):
        assert read_value(text) == text
    assert read_value("None") is None
    assert math.isclose(read_value("-1e-3"), -0.001)


@pytest.mark.trust
def test_a_studys_small_number_is_a_number() -> None:
    """YAML takes 1e-3 for a text; the trainer then stops at it, in every run."""
    words = {"data": "d.yaml", "base": "yolo11n", "variants": "carafe", "seeds": "2", "controls": "none"}
    spec = spec_from_arguments({**words, "lr0": "1e-3", "amp": "off", "cos_lr": "True"})
    assert {key: spec.train[key] for key in ("lr0", "amp", "cos_lr")} == {"lr0": 0.001, "amp": False, "cos_lr": True}
    assert spec.controls == ()
