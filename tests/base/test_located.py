"""One YAML reader: lines, limits that are counted before anything is made, and no code."""

from __future__ import annotations

import itertools
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from detgraft.base.located import Kind, parse_located
from detgraft.datasets.folder import load_data_yaml
from detgraft.errors import DetgraftError, PlanError
from detgraft.plan.document import read_document
from detgraft.study.design.spec import read_spec

KIND = Kind("test file", most_values=100, most_depth=5)
LETTERS = "abcdefghi"


def bomb(form: str) -> str:
    """Nine lines that stand for 9**9 values."""
    lines = ['a: &a ["x","x","x","x","x","x","x","x","x"]']
    if form == "merge":
        lines = ["a: &a {" + ", ".join(f"k{k}: 0" for k in range(9)) + "}"]
    for before, name in itertools.pairwise(LETTERS):
        inner = ",".join([f"*{before}"] * 9)
        if form == "map":
            inner = ", ".join(f"k{k}: *{before}" for k in range(9))
            lines.append(f"{name}: &{name} {{{inner}}}")
        elif form == "merge":
            lines.append(f"{name}: &{name} {{<<: [{inner}]}}")
        else:
            lines.append(f"{name}: &{name} [{inner}]")
    return "\n".join(lines) + "\n"


READERS: dict[str, Callable[[Path], object]] = {
    "study": read_spec,
    "model": read_document,
    "data": load_data_yaml,
}


@pytest.mark.trust
@pytest.mark.parametrize("form", ["list", "map", "merge"])
@pytest.mark.parametrize("reader", READERS)
def test_an_alias_bomb_is_refused_at_once(reader: str, form: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(bomb(form))
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(DetgraftError, match=r"bomb\.yaml, line [56]: stands for more than \d+ values, aliases"):
        READERS[reader](path)
    spent, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Not a measure of speed: what is expanded takes minutes and a gigabyte.
    assert spent < 2
    assert peak < 20_000_000


@pytest.mark.trust
@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: {c: *a}}"])
@pytest.mark.parametrize("reader", READERS)
def test_a_value_that_holds_itself_is_refused(reader: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").write_text(text)
    with pytest.raises(DetgraftError, match=r"loop\.yaml, line 1: holds an alias"):
        READERS[reader](tmp_path / "loop.yaml")


def test_limits_hold_where_they_are_passed() -> None:
    assert len(parse_located("a: [" + "1," * 97 + "]", "f", PlanError, KIND).values["a"]) == 97
    with pytest.raises(PlanError, match=r"f, line 2: stands for more than 100 values.*no test file does"):
        parse_located("b: [\n" + "1," * 98 + "]", "f", PlanError, KIND)
    assert parse_located("a: [[[[1]]]]", "f", PlanError, KIND).values == {"a": [[[[1]]]]}
    with pytest.raises(PlanError, match=r"f, line 1: is nested more than 5 deep"):
        parse_located("a: [[[[[1]]]]]", "f", PlanError, KIND)
    # An alias is as deep as what it stands for.
    with pytest.raises(PlanError, match=r"f, line 2: is nested more than 5 deep"):
        parse_located("a: &a [[[1]]]\nb: [[*a]]", "f", PlanError, KIND)
    assert parse_located("a: &a [[[1]]]\nb: *a", "f", PlanError, KIND).values["b"] == [[[1]]]
    with pytest.raises(PlanError, match="nested more than 5 deep"):
        parse_located("a: " + "[" * 5000, "f", PlanError, KIND)


def test_lines_of_keys_items_and_merged_maps() -> None:
    found = parse_located("a: &a\n  x: 1\nb:\n  <<: *a\n  y: [1,\n    2]\n7: c\n", "f", PlanError, KIND)
    assert found.values == {"a": {"x": 1}, "b": {"x": 1, "y": [1, 2]}, 7: "c"}
    assert found.lines["a", "x"] == 2
    assert found.lines["b", "y", 1] == 6
    assert found.lines[(7,)] == 7
    assert found.at("b", "y", 1, "deeper").line == 6


def test_a_key_written_twice_is_refused_where_the_kind_says_so() -> None:
    unique = Kind("test file", unique=True)
    with pytest.raises(PlanError, match=r"line 2: 'a' is written twice, first in line 1"):
        parse_located("a: 1\na: 2", "f", PlanError, unique)
    assert parse_located("a: 1\na: 2", "f", PlanError, KIND).values == {"a": 2}


@pytest.mark.parametrize(
    "text",
    ["a: !!python/object/apply:os.getcwd []", "!!python/name:os.system x: 1", "a: [", "a: 2001-99-99", "? [1, 2]\n: 3"],
)
def test_what_is_no_yaml_is_one_error(text: str) -> None:
    with pytest.raises(PlanError, match="is not valid YAML"):
        parse_located(text, "f", PlanError, KIND)


@pytest.mark.trust
def test_a_study_file_in_gbk_keeps_its_names(tmp_path: Path) -> None:
    text = "name: 研究\ndata: d.yaml\nbase: yolo11n\nvariants: [carafe]\nseeds: 2\n"
    (tmp_path / "s.yaml").write_bytes(text.encode("gbk"))
    assert read_spec(tmp_path / "s.yaml").name == "研究"
