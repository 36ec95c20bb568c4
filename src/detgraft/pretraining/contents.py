"""What a run's pictures hold: hashed once, compared when the run is continued.

The table ``images.json`` in the run's folder holds size, modification time and hash of each picture. A picture whose
size and time are as they were is not read again; any other one is, and must have the hash that it had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from detgraft.base.files import read_json, write_json
from detgraft.errors import DataError
from detgraft.pretraining.images import ImageList

TABLE = "images.json"
_SHOWN = 5

Entry = tuple[int, int, str]
"""Size in bytes, modification time in nanoseconds, SHA-256."""


def record_contents(images: ImageList, folder: Path) -> str:
    """Hash every picture, write the table, and return the hash of all of them.

    Args:
        images: The run's pictures.
        folder: The run's folder.
    """
    table = _hashed(images, {})
    _write(folder, table)
    return _digest(table)


def refuse_other_names(images: ImageList, identity: Mapping[str, object]) -> None:
    """Refuse images that are more, fewer or called otherwise than those that a run began with.

    Args:
        images: The pictures as they are now.
        identity: What the run's checkpoint says of them.

    Raises:
        DataError: Other names.
    """
    if identity["digest"] != images.digest:
        raise DataError(
            f"the images in '{images.source}' are not those that the run began with "
            f"({identity['images']} images then, {len(images.paths)} now); start a new run"
        )


def check_contents(images: ImageList, folder: Path, expected: object) -> str:
    """Compare the pictures with those that a run began with; return the hash of all of them.

    Args:
        images: The pictures as they are now, under the same names.
        folder: The run's folder.
        expected: The hash in the run's checkpoint; None where a version wrote it that looked at names only.

    Raises:
        DataError: A picture holds something else; names the first of them.
    """
    before = _read(folder)
    if expected is not None and _digest(before) != expected:
        before = {}  # lost, or another run's: every picture is hashed, and only the whole can be compared
    now = _hashed(images, before)
    changed = [name for name, entry in before.items() if name in now and now[name][2] != entry[2]]
    if changed:
        shown = ", ".join(f"'{name}'" for name in changed[:_SHOWN])
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise DataError(
            f"{len(changed)} of the {len(now)} images in '{images.source}' are not what they were when the run began: "
            f"{shown}{more}; put them back, or start a new run"
        )
    digest = _digest(now)
    if expected is not None and digest != expected:
        raise DataError(
            f"images in '{images.source}' are not what they were when the run began; which ones cannot be said, since "
            f"'{folder / TABLE}' is lost or damaged. Put them back, or start a new run"
        )
    _write(folder, now)
    return digest


def _hashed(images: ImageList, known: Mapping[str, Entry]) -> dict[str, Entry]:
    table: dict[str, Entry] = {}
    for name, path in zip(images.names, images.paths, strict=True):
        while name in table:  # files of one name in folders apart from the source
            name = f"{name}'"
        try:
            status = path.stat()
            entry = known.get(name)
            if entry is None or entry[:2] != (status.st_size, status.st_mtime_ns):
                entry = (status.st_size, status.st_mtime_ns, _hash(path))
        except OSError:  # absent or not readable: a broken picture, which the run leaves out and lists
            entry = (-1, 0, "")
        table[name] = entry
    return table


def _hash(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def _digest(table: Mapping[str, Entry]) -> str:
    lines = [f"{name}\0{entry[2]}" for name, entry in sorted(table.items())]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _write(folder: Path, table: Mapping[str, Entry]) -> None:
    write_json(folder / TABLE, {name: list(entry) for name, entry in table.items()})


def _read(folder: Path) -> dict[str, Entry]:
    content = read_json(folder / TABLE)
    if not isinstance(content, dict):
        return {}
    entries = {name: tuple(entry) for name, entry in content.items() if isinstance(entry, list) and len(entry) == 3}
    return {
        name: (size, time, text)
        for name, (size, time, text) in entries.items()
        if isinstance(size, int) and isinstance(time, int) and isinstance(text, str)
    }
