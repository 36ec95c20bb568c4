"""Starts the child processes of a study, each with its own settings folder and a fixed environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detgraft.study.run.cell import WATCH

CELL = (sys.executable, "-m", "detgraft.study.run.cell")
PREFLIGHT = (sys.executable, "-m", "detgraft.study.run.preflight")
# What a surrounding distributed or notebook session may have set, and what would change a run.
_REMOVED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PYTHONSTARTUP", "OMP_PROC_BIND")


@dataclass(frozen=True)
class Slot:
    """A place where one run fits.

    Args:
        gpu: Entry for CUDA_VISIBLE_DEVICES; None leaves the variable alone, an empty text hides all GPUs.
        threads: Threads of one run on the processor.
        online: Whether it may use the network: the preflight, to fetch initial weights; a run never.
    """

    gpu: str | None
    threads: int
    online: bool = False


def environment(folder: Path, slot: Slot, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child.

    Args:
        folder: The child's folder; Ultralytics' settings go below it.
        slot: Where it runs.
        base: Environment to start from; this process's own by default.
    """
    env = {key: value for key, value in (os.environ if base is None else base).items() if key not in _REMOVED}
    settings = folder / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    offline = "0" if slot.online else "1"
    env |= {
        "YOLO_CONFIG_DIR": str(settings),
        "YOLO_AUTOINSTALL": "0",
        "YOLO_OFFLINE": "false" if slot.online else "true",
        "HF_HUB_OFFLINE": offline,
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS is only deterministic with a fixed workspace
        "OMP_NUM_THREADS": str(slot.threads),
        "MKL_NUM_THREADS": str(slot.threads),
        "MPLBACKEND": "Agg",
        WATCH: "1",
    }
    if slot.gpu is not None:
        env["CUDA_VISIBLE_DEVICES"] = slot.gpu
    return env


def start(command: Sequence[str], folder: Path, slot: Slot) -> subprocess.Popen[bytes]:
    """Start ``command FOLDER`` with its output added to ``FOLDER/log.txt``.

    The child's standard input is a pipe that this process never writes to: it closes when this process ends, in
    whatever way, and tells the child to end too. The child has a session of its own, so that Ctrl-C reaches only us.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [*command, str(folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(folder, slot),
            start_new_session=True,
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a child by force, and with it what it has started: it leads a session of its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, OSError):  # Windows has no process groups; a group may also be gone already
        process.kill()


def stop(processes: Sequence[subprocess.Popen[bytes]], seconds: float = 5.0) -> None:
    """End children: ask first, then force."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            kill(process)
            process.wait()
        if process.stdin is not None:
            process.stdin.close()
