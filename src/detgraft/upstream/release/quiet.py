"""Silences Ultralytics' console output where detgraft shows progress itself."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from ultralytics.utils import LOGGER

_lock = threading.Lock()
_wanted: list[list[int]] = []
_before = LOGGER.level


@contextlib.contextmanager
def quiet(level: int = logging.ERROR) -> Iterator[None]:
    """Let only messages of ``level`` and above through, and no progress bars.

    Calls may overlap in any order, in threads and in generators: the quietest of those that are open holds, and the
    last one to end gives the level back.
    """
    global _before
    mine = [level]
    with _lock:
        if not _wanted:
            _before = LOGGER.level
        _wanted.append(mine)
        LOGGER.setLevel(max(wanted for (wanted,) in _wanted))
    try:
        yield
    finally:
        with _lock:
            _wanted[:] = [other for other in _wanted if other is not mine]
            LOGGER.setLevel(max((wanted for (wanted,) in _wanted), default=_before))
