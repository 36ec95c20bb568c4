"""Where a result comes from: versions, hardware, and the state of the surrounding repository."""

from __future__ import annotations

import platform
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from detgraft._version import __version__
from detgraft.base.processors import available_cpus

PACKAGES = (
    "ultralytics",
    "timm",
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "opencv-python",
    "opencv-python-headless",
    "faster-coco-eval",
)
"""What a trained model and its figures depend on, beside detgraft and Python."""

EXPORTERS = ("onnx", "onnxruntime", "onnxslim", "openvino")
"""What an exported model depends on as well."""


def versions(*more: str) -> dict[str, str]:
    """Versions of Python, detgraft and every package that a result depends on, as far as installed.

    Args:
        more: Names of further packages, such as :data:`EXPORTERS`.
    """
    # The package's own number: what the metadata say of a source tree is as old as its last installation.
    found = {"detgraft": __version__, "python": platform.python_version()}
    for package in (*PACKAGES, *more):
        version = version_of(package)
        if version is not None:
            found[package] = version
    return found


def version_of(package: str) -> str | None:
    """Version of an installed package, None where it is absent.

    Args:
        package: Its name as ``pip`` knows it.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def hardware() -> dict[str, Any]:
    """Host, processor, memory and the first visible GPU."""
    # A run that never imported torch did not use it.
    torch: Any = sys.modules.get("torch")
    found: dict[str, Any] = {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": available_cpus(),
        "threads": torch.get_num_threads() if torch else None,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "device": "cpu",
    }
    if torch and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["device"] = properties.name
        found["gpu_memory_gib"] = round(properties.total_memory / 2**30, 1)
        found["cuda"] = torch.version.cuda
        found["cudnn"] = torch.backends.cudnn.version()
    return found


def _processor() -> str:
    """The processor's name; ``platform`` knows only its architecture on Linux."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def git_state(folder: Path) -> dict[str, Any]:
    """Commit of the repository around ``folder`` and whether tracked files were changed; empty outside one."""

    def ask(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if not commit:
        return {}
    return {"commit": commit, "changed": bool(ask("status", "--porcelain", "--untracked-files=no"))}
