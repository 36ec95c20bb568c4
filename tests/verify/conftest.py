"""Fixtures of the checks' tests: a model small enough for every check, with one row to put a block into."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

TINY = """nc: 3
scales: # [depth, width, max_channels]
  n: [0.5, 0.25, 1024]
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, {block}]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
head:
  - [[2, 3, 4], 1, Detect, [nc]]
"""
BLOCK_LINE = 7
"""1-based line of the row with the block; it becomes layer 2."""


@pytest.fixture(scope="session")
def planted() -> str:
    """Load the blocks with planted defects, as ``plugins=`` does; return what child processes inherit of it."""
    from detgraft.catalog.plugins import ENVIRONMENT, load_plugins

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENVIRONMENT, "")
        load_plugins(Path(__file__).with_name("planted.py"))
        return os.environ[ENVIRONMENT]


@pytest.fixture(autouse=True)
def _children_know_them(planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes of these tests load the blocks too, and those of other folders' tests do not."""
    from detgraft.catalog.plugins import ENVIRONMENT

    monkeypatch.setenv(ENVIRONMENT, planted)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[[str], str]:
    """Writes a small detector with a block in its row 2 and returns its path."""

    def write(block: str = "Conv, [128, 3, 2]") -> str:
        path = tmp_path / f"tiny-{block.partition(',')[0].lower()}.yaml"
        path.write_text(TINY.format(block=block), "utf-8")
        return str(path)

    return write
