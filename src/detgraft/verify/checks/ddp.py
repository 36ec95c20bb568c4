"""Check 6: does the model train in two processes, without unused parameters, and stay the same in both?"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from torch import distributed

from detgraft.upstream.service.descriptions import for_another_process
from detgraft.verify.checks.ddp_worker import WORLD
from detgraft.verify.result import CheckResult, skipped, verdict
from detgraft.verify.subject import Subject

NAME = "ddp"
STEPS = 2
TIMEOUT = 300
"""Seconds for both processes together."""


def check(subject: Subject) -> CheckResult:
    """Run two gloo processes on the CPU for two steps each, with different data."""
    if subject.model is None:
        return skipped(NAME, "the model cannot be built")
    if not subject.mapping:
        return skipped(NAME, "the model carries no description, so a fresh process cannot build it")
    if not distributed.is_available() or not distributed.is_gloo_available():
        return skipped(NAME, "this torch was built without gloo")
    folder = subject.folder / "ddp"
    folder.mkdir()
    spec = {
        "mapping": for_another_process(subject.mapping),
        "channels": subject.channels,
        "imgsz": subject.small,
        "steps": STEPS,
        "timeout": TIMEOUT,
        "store": str(folder / "store"),
    }
    (folder / "spec.json").write_text(json.dumps(spec), "utf-8")
    subject.say("two processes, two steps")
    failure = _run(folder)
    if failure:
        return verdict(NAME, [failure], {})
    first, second = (json.loads((folder / f"rank{rank}.json").read_text("utf-8")) for rank in range(WORLD))
    return verdict(NAME, _problems(subject, first, second), {"losses": [first["losses"], second["losses"]]})


def _problems(subject: Subject, first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    if first["start"] != second["start"]:
        return ["the two processes do not start from the same weights"]
    unused = list(dict.fromkeys([*first["unused"], *second["unused"]]))
    if unused:
        return [f"{subject.parameter(name)} is unused, so the next step of DDP dies waiting for it" for name in unused]
    for answer in (first, second):
        if answer["error"]:
            return [f"training in two processes fails: {answer['error']}"]
    if first["end"] != second["end"]:
        return ["the two processes hold different weights after two steps"]
    return []


def _run(folder: Path) -> str:
    """Run both processes; return why there is no answer, or an empty text."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "YOLO_AUTOINSTALL": "0",
        "YOLO_OFFLINE": "1",
        "YOLO_VERBOSE": "false",
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo"),
    }
    logs = [folder / f"rank{rank}.log" for rank in range(WORLD)]
    processes = []
    with contextlib.ExitStack() as files:
        for rank, log in enumerate(logs):
            command = [sys.executable, "-m", "detgraft.verify.checks.ddp_worker", str(folder / "spec.json"), str(rank)]
            output = files.enter_context(log.open("w", encoding="utf-8"))
            processes.append(subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=folder))
        try:
            for process in processes:
                process.wait(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            return f"the two processes did not finish within {TIMEOUT} s"
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                    process.wait()
    for process, log in zip(processes, logs, strict=True):
        if process.returncode:
            lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
            return f"a process ended with status {process.returncode}: {lines[-1][:300] if lines else 'no message'}"
    return ""
