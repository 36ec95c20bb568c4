"""Which results were verified, so that a mere question need not read them again: ``OUT/verified.json``.

Only :func:`detgraft.study.api.status` relies on it, and only where size and times of every file are still those of
then; what trains or judges reads and verifies everything itself.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detgraft.base.files import write_json
from detgraft.study.design.errors import DamagedError
from detgraft.study.design.seal import read_sealed, seal
from detgraft.study.judge.verification import RACY_NS
from detgraft.study.run.store import Checked, StudyFolder

REMEMBERED = "verified.json"


@dataclass(frozen=True)
class Made:
    """How a run was made: what :func:`detgraft.study.judge.analysis.mixed_versions` asks of a result."""

    versions: Mapping[str, str]
    hardware: Mapping[str, Any]
    format: int


def remember(study: StudyFolder) -> None:
    """Write down which results of a study are verified."""
    made: list[Any] = []
    cells: dict[str, Any] = {}
    for folder, checked in study.verified.items():
        result = checked.result
        newest = max((max(entry[2:4]) for entry in checked.look[0]), default=0)
        if result is None or time.time_ns() - newest < RACY_NS:
            continue
        own = [dict(result.versions), {"device": result.hardware.get("device")}, result.format]
        if own not in made:
            made.append(own)
        cells[str(folder.relative_to(study.path))] = [checked.look[0], made.index(own)]
    content = {"study": study.view().look, "digest": study.spec.digest(), "made": made, "cells": cells}
    with contextlib.suppress(OSError):  # it only saves time
        write_json(study.path / REMEMBERED, seal(content))


def recall(study: StudyFolder) -> dict[Path, Made]:
    """Count as verified what :func:`remember` wrote, where the files are still those of then.

    Returns:
        How the runs that count so were made, by their folders.
    """
    try:
        raw = read_sealed(study.path / REMEMBERED)
    except DamagedError:
        return {}
    look = study.view().look
    if raw.get("digest") != study.spec.digest() or tuple(map(tuple, raw.get("study", ()))) != look:
        return {}
    made = [Made(*entry) for entry in raw["made"]]
    found = {}
    for name, (own, index) in raw["cells"].items():
        folder = study.path / name
        study.verified[folder] = Checked((tuple(map(tuple, own)), look), "")
        found[folder] = made[index]
    return found
