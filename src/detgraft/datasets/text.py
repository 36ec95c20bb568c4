"""Reading text as people's editors write it, finding the files that they name, writing files whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path

from detgraft.errors import DataError, Location, nearest

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: Path) -> tuple[str, str]:
    """Read a text file in UTF-8 (with or without byte-order mark), UTF-16 with mark, or GBK.

    Chinese Windows editors save GBK by default and PowerShell's ``>`` saves UTF-16.

    Returns:
        The text, and the encoding that it was in: ``utf-8``, ``utf-16`` or ``gbk``.

    Raises:
        DataError: The file cannot be read, or is in none of these encodings.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", Location(str(path))) from error
    # gb18030 contains GBK and adds the rare characters that newer Windows versions write.
    attempts = [("utf-16", "utf-16")] if raw.startswith(_UTF16_MARKS) else [("utf-8-sig", "utf-8"), ("gb18030", "gbk")]
    for codec, encoding in attempts:
        try:
            return raw.decode(codec), encoding
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
    raise DataError("expected text in UTF-8 or GBK, found other bytes", Location(str(path), line))


def find_existing(name: str | Path, known: Iterable[str] = ()) -> Path:
    """Return the path that a user named, also when it was written with Windows' separators on another system.

    Args:
        name: File or folder; ``~`` is the home folder.
        known: Further names to propose when there is no such file.

    Raises:
        DataError: No such file or folder; the message proposes the nearest name beside it.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    slashed = Path(str(name).replace("\\", "/")).expanduser()
    if slashed.exists():
        return slashed
    home = slashed.parent
    while not home.is_dir() and home != home.parent:
        home = home.parent
    siblings = [entry.name for entry in home.iterdir()] if home == slashed.parent else []
    where = "" if home == slashed.parent else f" The folder {str(slashed.parent)!r} does not exist either."
    hint = nearest(slashed.name, [*siblings, *known])
    raise DataError(f"no such file or folder (looked in {str(home.absolute())!r}).{where}{hint}", Location(str(name)))


def write_whole(path: Path, text: str) -> None:
    """Write a UTF-8 text file so that nobody ever sees half of it; its folder is made when missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
