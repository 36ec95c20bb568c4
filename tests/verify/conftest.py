"""Fixtures of the checks' tests: a model small enough for every check, with one row to put a block into."""

from __future__ import annotations

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


@pytest.fixture(scope="session", autouse=True)
def planted() -> None:
    """Load the blocks with planted defects, as ``plugins=`` does."""
    from detgraft.catalog.plugins import load_plugins

    load_plugins(Path(__file__).with_name("planted.py"))


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[[str], str]:
    """Writes a small detector with a block in its row 2 and returns its path."""

    def write(block: str = "Conv, [128, 3, 2]") -> str:
        path = tmp_path / f"tiny-{block.partition(',')[0].lower()}.yaml"
        path.write_text(TINY.format(block=block), "utf-8")
        return str(path)

    return write
