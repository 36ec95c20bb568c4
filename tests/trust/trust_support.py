"""What the tests of Trust share: small model files, and the log of Ultralytics."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SMALL = """nc: 3
scales:
  n: [0.50, 0.25, 1024]
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [-1, 1, Conv, [512, 3, 2]]
  - [-1, 1, Conv, [1024, 3, 2]]
head:
  - [4, 1, CARAFE, []]
  - [[2, 3, 5], 1, Detect, [nc]]
"""
"""A detector of five convolutions; its layers 0 to 4 have 16, 32, 64, 128 and 256 channels."""


def with_row(row: str) -> str:
    """The small model with another row in the place of CARAFE's, in line 11."""
    return SMALL.replace("[4, 1, CARAFE, []]", row)


def written(text: str, name: str = "yolo11n-small.yaml") -> str:
    """Write a model file into the current folder and return its name."""
    Path(name).write_text(text, encoding="utf-8")
    return name


@contextmanager
def log() -> Iterator[list[str]]:
    """Collect what Ultralytics' logger is given."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    from ultralytics.utils import LOGGER

    handler = Keep()
    LOGGER.addHandler(handler)
    try:
        yield lines
    finally:
        LOGGER.removeHandler(handler)
