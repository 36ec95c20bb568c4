"""``detgraft new block``: what it writes passes as written; what it refuses, and that nothing is written then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from expression_support import files_below, run_cli

from detgraft.cli.new import RULES, class_name, new_block
from detgraft.errors import ArgumentError, CatalogError, DetgraftError


@pytest.mark.parametrize("rule", [pytest.param(r, marks=[] if r == "scaled" else pytest.mark.slow) for r in RULES])
def test_what_is_written_passes(rule: str, tmp_path: Path) -> None:
    process = run_cli("new", "block", f"my_{rule}", f"channels={rule}", "out=新 块", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    folder = tmp_path / "新 块"
    assert files_below(folder) == {f"my_{rule}.py", f"test_my_{rule}.py"}
    assert f"my_{rule}.py" in process.stdout
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"test_my_{rule}.py", "-p", "no:cacheprovider", "-rs"],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert found.returncode == 0, found.stdout[-3000:]
    assert "13 passed, 1 skipped" in found.stdout, found.stdout[-1000:]  # these blocks have no fuse()
    shown = run_cli("show", f"yolo11n+my_{rule}", f"plugins={folder / f'my_{rule}.py'}", "imgsz=64", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "parameters" in shown.stdout


@pytest.mark.parametrize("rule", RULES)
def test_the_text_keeps_the_projects_style(rule: str, tmp_path: Path) -> None:
    for path in new_block("my_block", rule, tmp_path):
        text = path.read_text(encoding="utf-8")
        assert "{{" not in text
        assert "{%" not in text
        assert all(len(line) <= 120 and line == line.rstrip() for line in text.splitlines())
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        compile(text, str(path), "exec")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("1block", "is a Python name"),
        ("my-block", "is a Python name"),
        ("../block", "is a Python name"),
        ("模块", "is a Python name"),
        ("class", "is a Python name"),
        ("", "is a Python name"),
        ("carafe", "is registered already (as 'CARAFE')"),
        ("CoordAttention", "is registered already (as 'CoordAtt')"),
        ("C3k2", "is the name of a stock Ultralytics module"),
        ("torch", "would hide the Python module 'torch'"),
        ("random", "would hide the Python module 'random'"),
    ],
)
def test_names_that_cannot_be_used(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as caught:
        new_block(name, "scaled", tmp_path / "out")
    assert words in str(caught.value)
    assert files_below(tmp_path) == set()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("precious", encoding="utf-8")
    with pytest.raises(ArgumentError, match=r"test_mine\.py exists already; nothing was written"):
        new_block("mine", "scaled", tmp_path)
    assert files_below(tmp_path) == {"test_mine.py"}
    assert (tmp_path / "test_mine.py").read_text(encoding="utf-8") == "precious"


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="found 'scale'. Did you mean 'scaled'"):
        new_block("mine", "scale", tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DetgraftError, match="cannot be made"):
        new_block("mine", "scaled", tmp_path / "file" / "below")
    cases = {
        ("model", "mine"): "makes a block",
        ("block", "mine", "chanels=same"): "Did you mean 'channels'",
        ("block", "mine", "same"): "arguments are key=value",
    }
    for words, message in cases.items():
        process = run_cli("new", *words, cwd=tmp_path)
        assert process.returncode == 2
        assert message in process.stderr
    assert files_below(tmp_path) == {"file"}


def test_class_names() -> None:
    assert [class_name(n) for n in ("my_block", "gate", "SPDConv2", "a_b_c")] == ["MyBlock", "Gate", "SPDConv2", "ABC"]
