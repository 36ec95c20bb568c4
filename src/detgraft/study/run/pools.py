"""Runs on the GPUs of several machines through Ray, with the same files and the same resume as on one machine.

All machines must see the study's folder and the data under the same paths (a network file system), and have detgraft
installed. Ray only starts the same child process elsewhere; nothing of a result passes through it.

Source: https://github.com/ray-project/ray (Apache-2.0), `ray.init`, `ray.remote`, `ray.wait`.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detgraft.base.extras import require
from detgraft.study.run.launch import CELL, Slot, start, stop
from detgraft.study.run.store import Cell
from detgraft.study.run.warden import dismiss, post


def run_remotely(folder: str, threads: int, command: Sequence[str], cpu: bool = False) -> int:
    """What a Ray worker does: start the child and wait for it. Ray has set CUDA_VISIBLE_DEVICES for this worker.

    Args:
        folder: The cell's folder.
        threads: Threads of the run.
        command: What to start; the folder is added.
        cpu: Hide the GPUs from it.

    Returns:
        The child's exit status.
    """
    gpu = "" if cpu else os.environ.get("CUDA_VISIBLE_DEVICES")
    process = start(command, Path(folder), Slot(gpu, threads))
    try:
        return process.wait()
    finally:
        stop([process])


class RayPool:
    """Runs spread over a Ray cluster; see :class:`detgraft.study.run.executor.Pool`.

    Args:
        address: Address of a running cluster (``auto``, or ``HOST:6379``); None starts one on this machine alone.
        workers: Runs at once; by default as many as the cluster has GPUs, or one run for every machine without any.
        command: What to start for a cell.
        cpu: Hide the GPUs from every run.

    Raises:
        MissingExtraError: Ray is not installed.
    """

    def __init__(
        self, address: str | None, workers: int | None, command: Sequence[str] = CELL, *, cpu: bool = False
    ) -> None:
        # Read when Ray starts: no usage report leaves the machine.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        ray = require("ray")
        self._ray, self._command = ray, command
        options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
        self._warden: subprocess.Popen[bytes] | None = None
        if address is None:
            # Ray's sockets lie below this folder, and a socket's path may have 107 characters at most.
            self._temporary = Path(tempfile.mkdtemp(prefix="dgr"))
            self._warden = post(self._temporary)
            options["_temp_dir"] = str(self._temporary)
        else:
            options = {"address": address, **options}
            options.pop("include_dashboard")
        ray.init(**options)
        resources = ray.cluster_resources()
        gpus, cpus = 0 if cpu else int(resources.get("GPU", 0)), max(int(resources.get("CPU", 1)), 1)
        machines = sum(1 for node in ray.nodes() if node.get("Alive"))
        self._capacity = workers or gpus or machines
        self._threads = max(cpus // self._capacity, 1)
        needs = {"num_gpus": min(gpus / self._capacity, 1)} if gpus else {"num_gpus": 0}
        # Retrying is the engine's business, which knows whether a run made progress.
        self._remote = ray.remote(num_cpus=self._threads, max_retries=0, **needs)(run_remotely)
        self._running: dict[Any, Cell] = {}
        self._cpu = cpu

    @property
    def capacity(self) -> int:
        """How many runs fit at once."""
        return self._capacity

    def begin(self, cell: Cell) -> None:
        """Start a run on whichever machine has room."""
        task = self._remote.remote(str(cell.folder), self._threads, list(self._command), self._cpu)
        self._running[task] = cell

    def ended(self) -> list[tuple[Cell, int]]:
        """See :class:`detgraft.study.run.executor.Pool`; a lost worker or machine counts as killed."""
        if not self._running:
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        found = []
        for task in ready:
            try:
                status = int(self._ray.get(task))
            except self._ray.exceptions.RayError:
                status = -9
            found.append((self._running.pop(task), status))
        return found

    def end(self, cell: Cell) -> None:
        """End a run by force."""
        for task in [task for task, running in self._running.items() if running == cell]:
            self._ray.cancel(task, force=True)

    def close(self) -> None:
        """Cancel what still runs and leave the cluster."""
        for task in self._running:
            self._ray.cancel(task, force=True)
        self._running = {}
        self._ray.shutdown()
        if self._warden is not None:
            dismiss(self._warden)
