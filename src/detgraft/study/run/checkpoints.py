"""Training states that a kill cannot spoil.

Ultralytics writes ``last.pt`` in place, so a kill while it writes leaves half a file. After every epoch a complete
state (last weights with optimiser, best weights, learning curve) is therefore copied into a folder of its own, put on
disk, and renamed into place; the state before it is kept until then and one epoch longer.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detgraft.base.files import copy_durable, read_json, sync_folder, write_json

KEPT = 2


@dataclass(frozen=True)
class TrainingState:
    """One complete training state on disk.

    Args:
        folder: Holds ``last.pt``, ``best.pt`` and ``state.json``.
        epoch: Last finished epoch, from 0.
        finished: Whether training ended with this epoch.
        info: What else the trainer noted: curve, best epoch, seconds.
    """

    folder: Path
    epoch: int
    finished: bool
    info: Mapping[str, Any]

    @property
    def last(self) -> Path:
        """Weights and optimiser after the epoch."""
        return self.folder / "last.pt"

    @property
    def best(self) -> Path:
        """The best weights up to the epoch."""
        return self.folder / "best.pt"


class Checkpoints:
    """The published states of one run.

    Args:
        folder: Where they lie; made when the first one is published.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def publish(self, last: Path, best: Path, epoch: int, finished: bool, info: Mapping[str, Any]) -> TrainingState:
        """Copy a state and make it the newest one; all of it appears at once or not at all.

        Args:
            last: Ultralytics' ``last.pt``.
            best: Ultralytics' ``best.pt``.
            epoch: The finished epoch, from 0.
            finished: Whether training ends with it.
            info: Plain JSON to keep beside it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"epoch_{epoch:05d}"
        draft = self.folder / f".draft_{epoch:05d}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        copy_durable(last, draft / "last.pt")
        copy_durable(best, draft / "best.pt")
        write_json(draft / "state.json", {"epoch": epoch, "finished": finished, "info": dict(info)})
        shutil.rmtree(target, ignore_errors=True)
        draft.replace(target)
        sync_folder(self.folder)
        for old in self._folders()[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return TrainingState(target, epoch, finished, info)

    def newest(self) -> TrainingState | None:
        """The newest state whose files are all readable, or None."""
        for folder in reversed(self._folders()):
            raw = read_json(folder / "state.json")
            if isinstance(raw, dict) and _whole([folder / "last.pt", folder / "best.pt"]):
                return TrainingState(folder, int(raw["epoch"]), bool(raw["finished"]), raw["info"])
        return None

    def remove(self) -> None:
        """Delete all states."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _folders(self) -> list[Path]:
        return sorted(self.folder.glob("epoch_*")) if self.folder.is_dir() else []


def _whole(files: Sequence[Path]) -> bool:
    """Whether every file exists and, being a torch archive (a zip), has intact checksums throughout."""
    for file in files:
        try:
            with zipfile.ZipFile(file) as archive:
                if archive.testzip() is not None:
                    return False
        except (OSError, zipfile.BadZipFile):
            return False
    return True
