"""How many processors this process may use, which is often less than the machine has."""

from __future__ import annotations

import os
from pathlib import Path

_ROOT = Path("/")


def available_cpus(root: Path = _ROOT) -> int:
    """Return the number of processors that this process may use, at least 1.

    The least of: the machine's processors, the affinity mask (taskset, Slurm), and the quota of the control groups
    around the process (containers), version 1 or 2, rounded down.

    Args:
        root: Where ``proc`` and ``sys`` lie; for tests.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _quota(root)
    return max(1, count if quota is None else min(count, int(quota)))


def _quota(root: Path) -> float | None:
    """The least number of processors that any control group around this process allows."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    found: list[float] = []
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        homes, names = ["sys/fs/cgroup"], ["cpu.max"]
        if "cpu" in controllers.split(","):  # version 1
            homes = [f"sys/fs/cgroup/{controllers}", "sys/fs/cgroup/cpu"]
            names = ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        elif controllers:
            continue
        for home in homes:
            # Inside a container the path may be the host's, while its own group is mounted at the top.
            parts = [part for part in path.split("/") if part not in ("", "..")]
            for depth in range(len(parts), -1, -1):
                quota = _read_quota((root / home).joinpath(*parts[:depth]), names)
                if quota is not None:
                    found.append(quota)
    return min(found, default=None)


def _read_quota(group: Path, names: list[str]) -> float | None:
    try:
        words = " ".join((group / name).read_text() for name in names).split()
        quota, period = float(words[0]), float(words[1])
    except (OSError, ValueError, IndexError):  # "max" is no number: no quota
        return None
    return quota / period if quota > 0 and period > 0 else None
