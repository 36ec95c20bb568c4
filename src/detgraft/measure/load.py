"""Measures what else keeps the machine busy, since a latency that was measured beside other work says little."""

from __future__ import annotations

import time

import psutil

LOADED = 0.25
"""Share of the processors from which on a latency is called measured under load: two threads of eight, say."""


class OtherLoad:
    """Watches the processors from its making on."""

    def __init__(self) -> None:
        self._own = time.process_time()
        self._busy, self._all = _processor_seconds()

    def share(self) -> float | None:
        """Return the share of the machine's processors that other processes have used since, 0 to 1.

        What a hypervisor took away counts as used by others. None where the system does not tell, or too little time
        has passed for its counters to move.
        """
        own = time.process_time() - self._own
        busy, total = _processor_seconds()
        passed = total - self._all
        if passed <= 0:
            return None
        return round(min(max((busy - self._busy - own) / passed, 0.0), 1.0), 3)


def _processor_seconds() -> tuple[float, float]:
    """Seconds that all processors have been busy, and that there were, since the system started."""
    times = psutil.cpu_times()._asdict()
    # A guest's time is part of the user's already.
    total = sum(value for name, value in times.items() if not name.startswith("guest"))
    return total - times["idle"] - times.get("iowait", 0.0), total
