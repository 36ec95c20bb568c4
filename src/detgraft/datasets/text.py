"""Reading text as people's editors write it, and finding the files that they name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from detgraft.base.files import decode
from detgraft.errors import DataError, Location, nearest, nearest_names, proposed


def read_text(path: Path) -> tuple[str, str]:
    """Read a text file in UTF-8 (with or without byte-order mark), UTF-16 with mark, or GBK.

    Returns:
        The text, and the encoding that it was in: ``utf-8``, ``utf-16`` or ``gbk``.

    Raises:
        DataError: The file cannot be read, or is in none of these encodings.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", Location(str(path))) from error
    return decode(raw, str(path), DataError)


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
    # What is shipped has little to do with a user's own file, unless the names are nearly the same.
    stems = {Path(other).stem: other for other in known}
    shipped = [stems[stem] for stem in nearest_names(slashed.stem, stems, 1, cutoff=0.8)]
    hint = nearest(slashed.name, siblings, cutoff=0.8) or proposed(shipped) or nearest(slashed.name, siblings)
    raise DataError(f"no such file or folder (looked in {str(home.absolute())!r}).{where}{hint}", Location(str(name)))
