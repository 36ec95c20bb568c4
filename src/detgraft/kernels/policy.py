"""One policy for the Triton kernels: on where they were measured, elsewhere they wait until somebody asks for them.

Paper: none. Source: own code. No weights.

On NVIDIA's Hopper (compute capability 9: H100, H200) `benchmarks/RESULTS.md` has their figures beside PyTorch's own
operators, and `pytest -m gpu tests/kernels` their results. On other GPUs nobody has seen whether they are faster, or
whether their tiles fit into a smaller shared memory, so there they are off.
"""

from __future__ import annotations

import functools
import os
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import torch

from detgraft.errors import ArgumentError, nearest

SWITCH = "DETGRAFT_TRITON"
"""Environment variable for Triton kernels: ``1`` for all, ``0`` for none, or names with commas; absent: by the GPU."""

KERNELS = ("carafe", "convnext")
"""Names of the kernels: CARAFE's reassembly, and ConvNeXt V2's GELU with its response norm."""


MEASURED = (9,)
"""Major compute capabilities of NVIDIA's GPUs on which `benchmarks/` has found every kernel faster."""


def wants_triton(kernel: str, device: torch.device) -> bool:
    """Say whether a Triton kernel is to run: where the environment says nothing, on GPUs on which it was measured.

    There only if Triton finds what it needs to build it; asked for by name, it runs and fails with Triton's own words.

    Args:
        kernel: One of :data:`KERNELS`.
        device: The CUDA device that its input is on.

    Raises:
        ArgumentError: The environment names a kernel that does not exist.
    """
    text = os.environ.get(SWITCH, "").strip()
    if not text:
        return _is_measured(device)
    if text in ("0", "1"):
        return text == "1"
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in KERNELS:
            raise ArgumentError(
                f"{SWITCH}={text} names no kernel '{name}'; write 1, 0, or some of {', '.join(KERNELS)}."
                f"{nearest(name, KERNELS)}"
            )
    return kernel in names


def kernels_on(device: torch.device) -> list[str]:
    """Return the names of the Triton kernels that run on a CUDA device; for people, none where Triton is missing."""
    return [name for name in KERNELS if wants_triton(name, device)] if find_spec("triton") else []


@functools.cache
def _is_measured(device: torch.device) -> bool:
    # AMD's GPUs answer as CUDA devices too, and some of them with a 9
    if torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] not in MEASURED:
        return False
    return _can_build()


def _can_build() -> bool:
    """Whether Triton can build what starts its kernels: it calls a C compiler, which needs Python's headers.

    Small containers have neither. A kernel that nobody asked for must not end a training there.
    """
    found = os.environ.get("CC") or shutil.which("clang") or shutil.which("gcc")
    scheme = "posix_prefix" if sysconfig.get_default_scheme() == "posix_local" else sysconfig.get_default_scheme()
    return bool(found) and Path(sysconfig.get_path("include", scheme), "Python.h").is_file()
