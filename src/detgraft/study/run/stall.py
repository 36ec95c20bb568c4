"""Tells a run that hangs from one that is slow: by the slowest epoch so far, never by a fixed time alone."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

FLOOR = 600.0  # seconds that a run may always be silent
FIRST = 6 * 3600.0  # seconds while nothing is known yet of how long an epoch, or measuring, takes
OTHER_ARM = 5.0  # how much slower than all others an arm may be that has not finished an epoch yet


class StallWatch:
    """Times of the runs at work.

    Args:
        multiple: How many times the slowest epoch so far a run may take for one; None never calls a run stalled.
    """

    def __init__(self, multiple: float | None) -> None:
        self.multiple = multiple
        self._slowest: dict[str, float] = {}
        self._measured = 0.0
        self._since: dict[Hashable, float] = {}
        self._measuring: set[Hashable] = set()

    def learn(self, arm: str, curve: Iterable[Mapping[str, Any]]) -> None:
        """Take the epochs of a run that was finished before into account.

        Args:
            arm: Name of its arm.
            curve: Its learning curve, with the ``seconds`` of training up to each epoch.
        """
        before = 0.0
        for row in curve:
            seconds = row.get("seconds")
            if isinstance(seconds, (int, float)):
                self._note(arm, seconds - before)
                before = seconds

    def _note(self, arm: str, seconds: float) -> None:
        self._slowest[arm] = max(self._slowest.get(arm, 0.0), seconds)

    def begin(self, run: Hashable) -> None:
        """A run was started."""
        self._since[run] = time.monotonic()
        self._measuring.discard(run)

    def epoch(self, run: Hashable, arm: str) -> None:
        """A run has finished an epoch."""
        now = time.monotonic()
        self._note(arm, now - self._since.get(run, now))
        self._since[run] = now

    def measure(self, run: Hashable) -> None:
        """A run has finished training and is being measured."""
        if run not in self._measuring:
            self._measuring.add(run)
            self._since[run] = time.monotonic()

    def end(self, run: Hashable) -> None:
        """A run has ended."""
        since = self._since.pop(run, None)
        if run in self._measuring and since is not None:
            self._measured = max(self._measured, time.monotonic() - since)
        self._measuring.discard(run)

    def limit(self, run: Hashable, arm: str) -> float:
        """Seconds of silence after which a run counts as stalled."""
        if self.multiple is None:
            return float("inf")
        if run in self._measuring:
            return max(self.multiple * self._measured, FLOOR) if self._measured else FIRST
        if arm in self._slowest:
            return max(self.multiple * self._slowest[arm], FLOOR)
        if self._slowest:
            return max(OTHER_ARM * self.multiple * max(self._slowest.values()), FLOOR)
        return FIRST

    def stalled(self, run: Hashable, arm: str) -> float | None:
        """Seconds of silence of a run that was silent for too long; None for any other."""
        silent = time.monotonic() - self._since.get(run, time.monotonic())
        return silent if silent > self.limit(run, arm) else None
