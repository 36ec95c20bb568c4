"""Turns what went wrong in a run into one sentence that says what to do."""

from __future__ import annotations

import errno
import shutil
import traceback
from pathlib import Path
from typing import Any

from detgraft.errors import DetgraftError
from detgraft.study.run.store import now

EXIT_FAILED = 1
EXIT_UNRECORDED = 74  # failed, and not even the error could be written: the disk is full
EXIT_BUSY = 75  # another living process works on this cell
EXIT_ORPHAN = 76  # the process that started it is gone
_NEARLY_FULL = 4 << 20


class GpuMemoryError(RuntimeError):
    """The GPU has too little memory, and the run must not go on with a smaller batch than the other arms."""


def explain(error: BaseException, folder: Path) -> str:
    """One sentence for a person.

    Args:
        error: What was raised.
        folder: Where the run writes, to see whether the disk is full.
    """
    text = str(error)
    low = text.lower()
    if isinstance(error, GpuMemoryError):
        return text
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full(folder)
    writes = "PytorchStreamWriter" in text or "unexpected pos" in text or "no space left" in low
    if writes and _free(folder) < _NEARLY_FULL:
        return _disk_full(folder)
    if "out of memory" in low and ("cuda" in low or "hip" in low or "mps" in low):
        return f"The GPU has too little memory for this run: lower batch or imgsz for the whole study. ({_first(text)})"
    if isinstance(error, MemoryError) or "can't allocate memory" in low:
        return f"The machine has too little memory for this run: lower batch or workers. ({_first(text)})"
    if isinstance(error, DetgraftError):
        return text
    return f"{type(error).__name__}: {_first(text)}"


def record(error: BaseException, folder: Path) -> dict[str, Any]:
    """What ``error.json`` holds."""
    return {
        "message": explain(error, folder),
        "type": type(error).__name__,
        "traceback": "".join(traceback.format_exception(error))[-8000:],
        "time": now(),
    }


def _disk_full(folder: Path) -> str:
    return (
        f"The disk is full ({_free(folder) / 2**20:.0f} MiB free at {folder}): make room, then run the study again;"
        " this run goes on from its last complete epoch."
    )


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def _first(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:300] if lines else "no message"
