"""The folder of a study. What a cell's state is follows from its files alone, so that no kill can make it wrong.

OUT/study.json                   the study's identity, its digest, and how it was extended
OUT/study.lock                   held by the process that runs the study
OUT/arms/ARM.json                what building the arm showed: cost, transferred share
OUT/cells/ARM/seed_N/cell.json   the run's resolved configuration
                    /started.json, progress.json, log.txt, curve.json
                    /cell.lock       held by the process that trains it
                    /checkpoints/    the last two good states, while training
                    /best.pt, detections_SPLIT.npz, bootstrap_SPLIT.npy
                    /error.json      why it failed
                    /result.json     written last: the cell is done
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from detgraft.base.files import read_json, write_json
from detgraft.errors import Location
from detgraft.study.design.errors import StudyBusyError, StudyChangedError, StudyError
from detgraft.study.design.spec import StudySpec, changes, digest_of, only_adds
from detgraft.study.design.terms import Arm
from detgraft.study.judge.evidence import Run, State
from detgraft.study.judge.result import Result
from detgraft.study.run.lock import Lock, holder_of

FORMAT = 1


@dataclass(frozen=True)
class Cell:
    """One run: an arm with a seed, and its folder."""

    arm: Arm
    seed: int
    folder: Path

    @property
    def label(self) -> str:
        """Name for people, for example ``carafe, seed 3``."""
        return f"{self.arm.name}, seed {self.seed}"

    def state(self) -> State:
        """Where the cell stands, read from its files."""
        if (self.folder / "result.json").is_file():
            return State.DONE
        if holder_of(self.folder / "cell.lock") is not None:
            return State.RUNNING
        if (self.folder / "error.json").is_file():
            return State.FAILED
        return State.BROKEN_OFF if (self.folder / "started.json").is_file() else State.PENDING

    def error(self) -> str:
        """The sentence of a failed cell, or an empty text."""
        raw = read_json(self.folder / "error.json")
        return str(raw.get("message", "")) if isinstance(raw, dict) else ""

    def result(self) -> Result:
        """The result of a finished cell."""
        return Result.read(self.folder / "result.json")

    def progress(self) -> Mapping[str, Any]:
        """``epoch`` (finished ones), ``epochs`` and ``seconds`` of training so far; empty before the first epoch."""
        raw = read_json(self.folder / "progress.json")
        return raw if isinstance(raw, dict) else {}

    def clear(self) -> None:
        """Forget everything about an unfinished cell, so that it starts from scratch."""
        if self.state() in (State.DONE, State.RUNNING):
            raise StudyError(f"{self.label} is {self.state().value} and is not cleared.", Location(str(self.folder)))
        shutil.rmtree(self.folder, ignore_errors=True)


class StudyFolder:
    """A study's folder on disk.

    Args:
        spec: The study.
        path: The folder; ``spec.out`` by default.
    """

    def __init__(self, spec: StudySpec, path: Path | None = None) -> None:
        self.spec = spec
        self.path = (path or spec.out).resolve()

    @property
    def results_exist(self) -> bool:
        """Whether any cell was ever started."""
        return any((self.path / "cells").glob("*/seed_*/started.json"))

    def cells(self) -> Iterator[Cell]:
        """All cells, one seed of every arm after the other, so that a study that ends early is still paired."""
        for seed in self.spec.seeds:
            for arm in self.spec.arms:
                yield Cell(arm, seed, self.path / "cells" / arm.slug / f"seed_{seed}")

    def runs(self) -> list[Run]:
        """All cells with what is known of them, for the analysis."""
        found = []
        for cell in self.cells():
            state = cell.state()
            message = cell.error() if state is State.FAILED else ""
            result = cell.result() if state is State.DONE else None
            found.append(Run(cell.arm, cell.seed, state, message, result, cell.folder))
        return found

    def check_unchanged(self, extend: bool = False) -> None:
        """Compare the study with the one that the folder's results were made with.

        Args:
            extend: Allow a study that only has more seeds, variants or controls.

        Raises:
            StudyChangedError: It differs; the message says in what.
        """
        raw = read_json(self.path / "study.json")
        if not isinstance(raw, dict) or not self.results_exist:
            return
        old, new = raw["identity"], self.spec.identity()
        # The looks of a sequential study are its promise: more seeds or arms afterwards would be other looks.
        sequential = bool(old.get("looks") or new.get("looks"))
        may_grow = only_adds(old, new) and not sequential
        if old == new or (extend and may_grow):
            return
        lines = "".join(f"\n  {line}" for line in changes(old, new))
        advice = "Restore the file, or give this study another folder with out=."
        if sequential and extend:
            advice += " A sequential study cannot be extended: its looks were fixed before the first run."
        if may_grow:
            advice += (
                " It only adds arms or seeds: extend=True keeps the results and goes on, and the report will say that"
                " the study was extended after results were seen."
            )
        raise StudyChangedError(
            f"the results in {self.path} were made with another study:{lines}\n{advice}", Location(self.spec.source)
        )

    def open(self, extend: bool = False) -> None:
        """Make the folder, refuse a changed study, and write down what it is.

        Raises:
            StudyChangedError: See :meth:`check_unchanged`.
        """
        self.check_unchanged(extend)
        self.path.mkdir(parents=True, exist_ok=True)
        raw = read_json(self.path / "study.json") if self.results_exist else None
        history: list[dict[str, Any]] = list(raw.get("extended", [])) if isinstance(raw, dict) else []
        identity = self.spec.identity()
        if isinstance(raw, dict) and raw["identity"] != identity:
            history.append({"time": now(), "changes": changes(raw["identity"], identity)})
        content = {
            "format": FORMAT,
            "name": self.spec.name,
            "digest": digest_of(identity),
            "identity": identity,
            "extended": history,
        }
        if raw != content:
            write_json(self.path / "study.json", content)

    def extended(self) -> list[dict[str, Any]]:
        """When and how the study was extended after its first run began."""
        raw = read_json(self.path / "study.json")
        return list(raw.get("extended", [])) if isinstance(raw, dict) else []

    def lock(self) -> Lock:
        """Take the study's lock.

        Raises:
            StudyBusyError: Another living process runs this study.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = Lock(self.path / "study.lock")
        holder = lock.acquire()
        if holder is not None:
            raise StudyBusyError(
                f"this study is being run by {holder}; wait for it or stop it first.", Location(str(self.path))
            )
        return lock

    def arm_file(self, arm: Arm) -> Path:
        """Where the preflight of an arm is written."""
        return self.path / "arms" / f"{arm.slug}.json"


def now() -> str:
    """The time as ISO 8601 text in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
