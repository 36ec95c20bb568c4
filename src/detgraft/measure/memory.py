"""Measures the peak of live tensor memory, on any device.

On CUDA the allocator itself keeps the figure. Elsewhere every operation's result is followed from its making to its
release, which counts what a training step holds at once: weights, activations kept for the backward pass, gradients
and optimiser state; not the scratch memory inside one operation.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from detgraft.measure.watch import tensors_in


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, present: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: set[int] = set()
        for tensor in present:
            self._follow(tensor)

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tensors_in(result):
            self._follow(tensor)
        return result


def peak_bytes(run: Callable[[], object], present: Iterable[Tensor], device: str = "cpu") -> int:
    """Return the peak of live tensor memory in bytes while a function runs.

    Args:
        run: The work.
        present: Tensors that are there from the start (weights).
        device: ``cpu``, or a CUDA device, whose allocator is asked.
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return int(torch.cuda.max_memory_allocated(device))
    counter = _LiveBytes(present)
    with counter:
        run()
    return counter.peak
