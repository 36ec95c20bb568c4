"""Reads arguments in Ultralytics' key=value habit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from detgraft.base.values import read_value
from detgraft.errors import ArgumentError, nearest


def parse_pairs(words: Sequence[str], flags: Iterable[str] = ()) -> dict[str, Any]:
    """Parse ``key=value`` words.

    Args:
        words: The command line's words.
        flags: Keys that may stand alone, meaning True.

    Raises:
        ArgumentError: A word that is no pair, a key without value, or a key given twice.
    """
    flags = set(flags)
    pairs: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key = key.strip().lstrip("-").replace("-", "_")
        if not equals and key in flags:
            value: Any = True
        elif not equals:
            raise ArgumentError(f"arguments are key=value, such as model=yolo11n-carafe.yaml; found '{word}'")
        elif not key or not text:
            raise ArgumentError(f"'{word}' needs a key and a value around '='")
        else:
            value = read_value(text)
        if key in pairs:
            raise ArgumentError(f"'{key}' is given twice")
        pairs[key] = value
    return pairs


def check_keys(pairs: Iterable[str], known: Iterable[str]) -> None:
    """Raise for a key that does not exist.

    Raises:
        ArgumentError: Names the nearest key.
    """
    known = list(known)
    for key in pairs:
        if key not in known:
            raise ArgumentError(f"there is no argument '{key}'.{nearest(key, known)}")


def image_size(value: Any, default: int = 640) -> int | tuple[int, int]:
    """Read an image size: one number, or height and width.

    Raises:
        ArgumentError: Anything else.
    """
    if value is None:
        return default
    sizes = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(sizes) not in (1, 2) or not all(isinstance(s, int) and not isinstance(s, bool) and s > 0 for s in sizes):
        raise ArgumentError(f"imgsz must be a number of pixels, or height,width; found {value!r:.80}")
    return int(sizes[0]) if len(sizes) == 1 else (int(sizes[0]), int(sizes[1]))
