"""JSON files that can tell whether they are as they were written: a checksum over everything else in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detgraft.base.files import finite
from detgraft.errors import Location
from detgraft.study.design.errors import DamagedError
from detgraft.study.design.spec import digest_of

CHECKSUM = "checksum"


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """Plain JSON values with their checksum added.

    Args:
        value: What the file is to hold; tuples become lists and numbers that are not finite null, as in the file.
    """
    plain: dict[str, Any] = json.loads(json.dumps(finite({k: v for k, v in value.items() if k != CHECKSUM})))
    return {**plain, CHECKSUM: digest_of(plain)}


def is_sealed(raw: Mapping[str, Any]) -> bool:
    """Whether a file's values carry a checksum and agree with it."""
    return raw.get(CHECKSUM) == digest_of({key: value for key, value in raw.items() if key != CHECKSUM})


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DamagedError: The file is absent, empty, not whole, or holds something else; says which.
    """
    where = Location(str(path))
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedError("is absent.", where) from error
    except OSError as error:
        raise DamagedError(f"cannot be read: {error.strerror or error}.", where) from error
    if not data.strip(b"\0 \n\r\t"):
        raise DamagedError("is empty.", where)
    try:
        raw = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedError("is not JSON: it was cut off or overwritten.", where) from error
    if not isinstance(raw, dict):
        raise DamagedError(f"holds no JSON object but a {type(raw).__name__}.", where)
    return raw


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a JSON object that :func:`seal` made.

    Raises:
        DamagedError: As :func:`read_object`, or the content does not agree with its checksum.
    """
    raw = read_object(path)
    if not is_sealed(raw):
        raise changed_since(path)
    return raw


def changed_since(path: Path) -> DamagedError:
    """The error for a file whose content does not agree with its checksum."""
    return DamagedError(
        "does not agree with its own checksum: it was changed after it was written.", Location(str(path))
    )
