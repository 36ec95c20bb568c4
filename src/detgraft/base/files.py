"""Writing so that a kill at any moment leaves either the old content or the new one, never half of it.

There is one policy: the new content goes into a neighbour, is put on disk, and takes the file's name in one step; then
the folder is put on disk, too.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from detgraft.base.values import read_scalar
from detgraft.errors import DetgraftError, Location

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# What a spreadsheet takes for the beginning of a formula, or strips in front of one.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_atomic(path: Path, content: bytes | str, *, new: bool = False) -> None:
    """Write a file whole or not at all.

    Args:
        path: The file; its folder is made when missing.
        content: Text is written as UTF-8, with its line ends as they are.
        new: Refuse to write over what is there.

    Raises:
        FileExistsError: ``new``, and there is such a file.
    """
    data = content.encode() if isinstance(content, str) else content

    def fill(part: Path) -> None:
        with part.open("wb") as file:
            file.write(data)

    write_with(path, fill, new=new)


def write_with(path: Path, fill: Callable[[Path], object], *, new: bool = False) -> None:
    """Let ``fill`` make a file, which then takes the place of ``path``; nothing is left behind when it fails.

    Args:
        path: The file; its folder is made when missing.
        fill: Called with the path that it shall write to, in the same folder.
        new: Refuse to write over what is there.

    Raises:
        FileExistsError: ``new``, and there is such a file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name is cut: with what is added it must not be longer than a file's name can be.
    part = path.with_name(f".{path.name[:40]}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        fill(part)
        _sync(part)
        if new:
            _take_free_name(part, path)
        else:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def _take_free_name(part: Path, path: Path) -> None:
    """Give a file a name that nothing has; where the file system has no links, the check and the step are two."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:
        if path.exists():
            raise FileExistsError(f"{path} exists") from None
        part.replace(path)


def copy_durable(source: Path, target: Path) -> None:
    """Copy a file and wait until it is on disk; the target is not complete until this returns."""
    shutil.copyfile(source, target)
    _sync(target)


def copy_atomic(source: Path, target: Path) -> None:
    """Copy a file so that the target is either absent (or old) or complete."""
    write_with(target, lambda part: shutil.copyfile(source, part))


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Put renames inside a folder on disk, where the system offers that (Windows does not)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; a number that is not finite becomes null, because JSON has no other word for it."""
    write_atomic(path, json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON, or None where the file is absent or is not JSON (which an atomic writer never leaves)."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def finite(value: Any) -> Any:
    """Plain JSON values with null for every number that is not finite, and lists for tuples."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as CSV text with ``\\n`` line ends.

    A text that a spreadsheet would run as a formula (it begins with = + - @, a tab or a carriage return) gets an
    apostrophe in front, which spreadsheets do not show; numbers stay numbers.
    """
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([_harmless(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell.startswith(_FORMULA) or isinstance(read_scalar(cell), (int, float)):
        return cell
    return f"'{cell}"


def decode(raw: bytes, source: str, error: type[DetgraftError]) -> tuple[str, str]:
    """Decode text as people's editors write it: UTF-8 with or without byte-order mark, UTF-16 with mark, or GBK.

    Chinese Windows editors save GBK by default and PowerShell's ``>`` saves UTF-16.

    Args:
        raw: The file's content.
        source: How the file is called in messages.
        error: Class of the error.

    Returns:
        The text, and the encoding that it was in: ``utf-8``, ``utf-16`` or ``gbk``.

    Raises:
        DetgraftError: Of the class ``error``: it is in none of these encodings; names the line.
    """
    # gb18030 contains GBK and adds the rare characters that newer Windows versions write.
    attempts = [("utf-16", "utf-16")] if raw.startswith(_UTF16_MARKS) else [("utf-8-sig", "utf-8"), ("gb18030", "gbk")]
    for codec, encoding in attempts:
        try:
            return raw.decode(codec), encoding
        except UnicodeDecodeError as raised:
            line = raw.count(b"\n", 0, raised.start) + 1
    raise error("expected text in UTF-8 or GBK, found other bytes", Location(source, line))
