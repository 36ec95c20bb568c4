"""Plain values written as text: one reader for expressions, the command line, model rows and studies."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from detgraft.errors import ArgumentError

WORDS: Mapping[str, Any] = {"true": True, "false": False, "none": None}
"""Words that are no texts, however their letters are written."""

_ON = ("1", "true", "yes", "on")


def is_on(value: str | None) -> bool:
    """Say whether an environment variable's text switches something on; None is a variable that is not set."""
    return (value or "").strip().lower() in _ON


# A number that begins with further zeros is no number to Python either: 007 stays a name.
_WHOLE = re.compile(r"[+-]?(?:0|[1-9]\d{0,400})", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,5})?", re.ASCII)


def read_scalar(text: str, words: Mapping[str, Any] = WORDS) -> Any:
    """Read a whole number, a number, one of the words, or the text itself; nothing is evaluated.

    Args:
        text: For example ``3``, ``1e-3``, ``True``, ``wide``. ``nan`` and ``inf`` stay texts, 1e999 is infinite.
        words: What some words mean, in small letters; their case in the text does not matter.
    """
    if text.lower() in words:
        return words[text.lower()]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and not re.match(r"[+-]?0\d+$", text):
        return float(text)
    return text


def read_value(text: str, words: Mapping[str, Any] = WORDS) -> Any:
    """Read a scalar, a quoted text, or a list, tuple or dictionary of such as Python writes them.

    Args:
        text: For example ``0,1`` (a tuple), ``[0.5, 1]``, ``'3'`` (a text), or whatever :func:`read_scalar` takes.
        words: As there.
    """
    scalar = read_scalar(text, words)
    if scalar is not text:
        return scalar
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text
    return value if _is_plain(value) else text


LARGEST_SIDE = 16_384
"""Pixels of a picture's side; one picture of that size has 3.2 GB in float32."""


def read_size(value: Any, default: int = 640) -> int | tuple[int, int]:
    """Check an image size: one number, or height and width.

    Args:
        value: As given; None means the default.
        default: Pixels.

    Raises:
        ArgumentError: Anything else.
    """
    if value is None:
        return default
    sizes = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(sizes) not in (1, 2) or not all(isinstance(s, int) and not isinstance(s, bool) and s > 0 for s in sizes):
        raise ArgumentError(f"imgsz must be a number of pixels such as 640, or height,width; found {value!r:.80}")
    if max(sizes) > LARGEST_SIDE:
        raise ArgumentError(f"imgsz is a number of pixels up to {LARGEST_SIDE}, found {max(sizes)}")
    return int(sizes[0]) if len(sizes) == 1 else (int(sizes[0]), int(sizes[1]))


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple, set)):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    return value is None or isinstance(value, (bool, int, float, str))
