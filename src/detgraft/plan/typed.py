"""What people type, before the grammar reads it: an input method's full-width characters become the plain ones.

``yolo11n＋carafe（k_up＝5）`` means ``yolo11n+carafe(k_up=5)``. The names of files that exist stay as they are.
"""

from __future__ import annotations

import re
from pathlib import Path

_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_QUOTES = {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}
_OTHERS = {"\u3000": " ", "\xa0": " ", "\u3001": ",", "\u2013": "-", "\u2014": "-", "\u2212": "-", "\u3002": "."}
_NOTHING = dict.fromkeys((0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF))

PLAIN = {**_WIDE, **{ord(wide): plain for wide, plain in {**_QUOTES, **_OTHERS}.items()}, **_NOTHING}
"""Plain character by the code of what an input method or a word processor writes for it."""

_VALUE = re.compile(r"(?<=[=\uff1d])[^,()'\"+]+")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def as_typed(text: str) -> str:
    """Return a model's name or an expression with plain characters.

    Args:
        text: As typed. A file that exists under this name stays, and so does a base or a value that is one.

    Returns:
        The text itself where there is nothing to change.
    """
    if text.translate(PLAIN) == text or is_there(text):
        return text
    kept = [found.span() for found in _QUOTED.finditer(text)]
    kept += [found.span() for found in _VALUE.finditer(text) if is_there(found.group().strip())]
    base = re.split(r"[+\uff0b]", text, maxsplit=1)[0]
    if is_there(base.strip()):
        kept.append((0, len(base)))
    pieces, position = [], 0
    for start, end in sorted(kept):
        if start >= position:
            pieces += [text[position:start].translate(PLAIN), text[start:end]]
            position = end
    return "".join([*pieces, text[position:].translate(PLAIN)]).strip()


def is_there(name: str) -> bool:
    """Say whether something of this name exists; False for what no file can be called."""
    try:
        return bool(name) and Path(name).exists()
    except (OSError, ValueError):
        return False
