"""One policy for kernels that were never measured where they would run: they wait until somebody asks for them.

Paper: none. Source: own code. No weights.

The Triton kernels are proven in Triton's interpreter and compiled for real devices, but no figure on a GPU says that
they are faster than PyTorch's own operators there. So they are off, all of them, until `benchmarks/` has that figure.
"""

from __future__ import annotations

import os

from detgraft.errors import ArgumentError, nearest

SWITCH = "DETGRAFT_TRITON"
"""Environment variable that turns Triton kernels on: ``1`` for all, or names with commas; ``0`` or absent for none."""

KERNELS = ("carafe", "convnext")
"""Names of the kernels: CARAFE's reassembly, and ConvNeXt V2's GELU with its response norm."""


def wants_triton(kernel: str) -> bool:
    """Say whether a Triton kernel was asked for.

    Args:
        kernel: One of :data:`KERNELS`.

    Raises:
        ArgumentError: The environment names a kernel that does not exist.
    """
    text = os.environ.get(SWITCH, "").strip()
    if text in ("", "0", "1"):
        return text == "1"
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in KERNELS:
            raise ArgumentError(
                f"{SWITCH}={text} names no kernel '{name}'; write 1, 0, or some of {', '.join(KERNELS)}."
                f"{nearest(name, KERNELS)}"
            )
    return kernel in names
