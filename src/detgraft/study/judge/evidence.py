"""What the judge is given: the runs of a study as plain data, whoever keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from detgraft.base.files import read_json
from detgraft.study.design.spec import StudySpec
from detgraft.study.design.terms import Arm
from detgraft.study.judge.result import Result


class State(Enum):
    """What became of a run so far."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    BROKEN_OFF = "broken off"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Run:
    """One planned run and what is known of it.

    Args:
        arm: The arm.
        seed: The seed.
        state: What became of it.
        message: Why it failed, or in what its files are not those of this run; empty otherwise.
        result: Its result, when it is done.
        folder: Where its curve and its bootstrap draws lie.
    """

    arm: Arm
    seed: int
    state: State
    message: str
    result: Result | None
    folder: Path

    @property
    def label(self) -> str:
        """Name for people, for example ``carafe, seed 3``."""
        return f"{self.arm.name}, seed {self.seed}"

    def curve(self) -> list[Mapping[str, Any]]:
        """The learning curve, one row for each epoch; empty where there is none."""
        raw = read_json(self.folder / "curve.json")
        return raw if isinstance(raw, list) else []

    def draws(self, split: str) -> Any:
        """AP of a split under resampled pictures, shape (B,); None where it was not resampled."""
        try:
            return np.load(self.folder / f"bootstrap_{split}.npy", allow_pickle=False)
        except (OSError, ValueError):
            return None


class Evidence(Protocol):
    """A study with its runs."""

    @property
    def spec(self) -> StudySpec:
        """The study."""

    @property
    def path(self) -> Path:
        """Where it lies, for messages."""

    @property
    def absent(self) -> tuple[str, ...]:
        """Files of the study that are not here, where its results are only read."""

    def own_weights(self, arm: Arm) -> bool:
        """Whether a row of an arm loads weights of its own."""

    def runs(self) -> Sequence[Run]:
        """Every planned run."""

    def extended(self) -> list[dict[str, Any]]:
        """When and how the study was extended after its first run began."""
