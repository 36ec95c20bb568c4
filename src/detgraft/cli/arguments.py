"""Reads arguments in Ultralytics' key=value habit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from detgraft.base.values import read_value
from detgraft.errors import ArgumentError, nearest
from detgraft.plan.expression import is_expression


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
            raise ArgumentError(
                f"arguments are key=value, such as model=yolo11n-carafe.yaml; found '{word}'{_hint(word)}"
            )
        elif not key or not text:
            raise ArgumentError(f"'{word}' needs a key and a value around '='")
        else:
            value = read_value(text)
        if key in pairs:
            raise ArgumentError(f"'{key}' is given twice")
        pairs[key] = value
    return pairs


_CALLED = {
    "lr": "lr0",
    "batch_size": "batch",
    "img": "imgsz",
    "img_size": "imgsz",
    "weights": "model",
    "gpu": "device",
    "half": "quantize",
    "int8": "quantize",
    "lr_0": "lr0",
}
"""What other programs call an argument."""


def _hint(word: str) -> str:
    if not word.isidentifier() and (is_expression(word) or word.lower().endswith((".pt", ".yaml", ".yml"))):
        return f"; write {'data' if 'data' in word else 'model'}={word}"
    return f"; write {word}=VALUE" if word.isidentifier() else ""


def flag(pairs: Mapping[str, Any], key: str) -> bool:
    """Read a switch; absent means False.

    Raises:
        ArgumentError: Something other than True or False.
    """
    value = pairs.get(key, False)
    if not isinstance(value, bool):
        raise ArgumentError(f"{key} is True or False, found {value!r:.60}")
    return value


def check_keys(pairs: Iterable[str], known: Iterable[str]) -> None:
    """Raise for a key that does not exist.

    Raises:
        ArgumentError: Names the nearest key.
    """
    known = list(known)
    for key in pairs:
        if key not in known:
            few = f" The arguments are {', '.join(known)}" if len(known) <= 12 else ""
            value = {"half": "16", "int8": "8"}.get(key, "")
            hint = f" Write {_CALLED[key]}={value}" if _CALLED.get(key) in known else nearest(key, known)
            raise ArgumentError(f"there is no argument '{key}'.{hint or few}")
