"""Training states that a kill cannot spoil.

Ultralytics writes ``last.pt`` in place, so a kill while it writes leaves half a file. After every epoch a complete
state (last weights with optimiser, best weights, learning curve) is therefore copied into a folder of its own, put on
disk, and renamed into place; the state before it is kept until then and one epoch longer.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detgraft.base.files import copy_durable, sync_folder, write_json
from detgraft.study.design.errors import DamagedError
from detgraft.study.design.seal import changed_since, is_sealed, read_object, seal
from detgraft.study.judge.verification import file_digest, reason_of

KEPT = 2
FORMAT = 2
"""Of ``state.json``; the first one had neither a number nor a checksum."""
FILES = ("last.pt", "best.pt")


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
        config: Digest of the run's configuration; states of another run are never taken up.
        permit: Makes sure that this process may still publish, and that nobody else does meanwhile.
    """

    def __init__(
        self,
        folder: Path,
        config: str = "",
        permit: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self.folder, self.config, self.permit = folder, config, permit
        self.rejected: list[str] = []
        """Why :meth:`newest` passed over states that are newer than the one it found, one sentence each."""

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
        # A name of its own: a process that was given up for dead may still be at work on the same epoch.
        draft = Path(tempfile.mkdtemp(prefix=f".draft_{epoch:05d}_", dir=self.folder))
        copy_durable(last, draft / "last.pt")
        copy_durable(best, draft / "best.pt")
        files = {name: file_digest(draft / name) for name in FILES}
        state = {"epoch": epoch, "finished": finished, "info": dict(info), "config": self.config, "files": files}
        write_json(draft / "state.json", seal({"format": FORMAT, **state}))
        with self.permit():
            shutil.rmtree(target, ignore_errors=True)
            draft.replace(target)
            sync_folder(self.folder)
            for old in (*self._folders()[:-KEPT], *self.folder.glob(".draft_*")):
                shutil.rmtree(old, ignore_errors=True)
        return TrainingState(target, epoch, finished, info)

    def newest(self) -> TrainingState | None:
        """The newest state that is whole, unchanged, and of this run, or None."""
        self.rejected = []
        for folder in reversed(self._folders()):
            try:
                raw = self._read(folder)
                return TrainingState(folder, int(raw["epoch"]), bool(raw["finished"]), raw["info"])
            except (DamagedError, KeyError, TypeError, ValueError) as error:
                reason = reason_of(error) if isinstance(error, DamagedError) else "state.json is not complete."
                self.rejected.append(f"The state {folder.name} is not taken up: {reason}")
        return None

    def _read(self, folder: Path) -> dict[str, Any]:
        """What ``state.json`` of a state holds, once its files are known to be those that were published.

        Raises:
            DamagedError: They are not.
        """
        raw = read_object(folder / "state.json")
        if "format" not in raw:  # of the version before, which had no checksums of its own
            if not _whole([folder / name for name in FILES]):
                raise DamagedError("last.pt or best.pt is absent or damaged.")
            return raw
        if raw["format"] != FORMAT or not is_sealed(raw):
            raise changed_since(folder / "state.json")
        if self.config and raw["config"] and raw["config"] != self.config:
            raise DamagedError("state.json belongs to a run with another configuration.")
        for name in FILES:
            path = folder / name
            if not path.is_file():
                raise DamagedError(f"{name} is absent.")
            if file_digest(path) != raw["files"][name]:
                raise DamagedError(f"{name} is not the file that was published.")
        return raw

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
