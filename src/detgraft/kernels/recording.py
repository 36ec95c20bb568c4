"""Tells a forward pass that only runs from one that is recorded, compiled or counted.

A fast path made of buffers, strided views and own kernels is right only where operators run at once. A graph must hold
plain operators, and a counter of operations must see the mathematical work and not the padding of a tile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.utils import _python_dispatch

_fixed_batch: ContextVar[bool] = ContextVar("detgraft_fixed_batch", default=False)


@contextlib.contextmanager
def fixed_batch() -> Iterator[None]:
    """Promise that a graph recorded inside will only see the example's batch size."""
    token = _fixed_batch.set(True)
    try:
        yield
    finally:
        _fixed_batch.reset(token)


def is_batch_fixed() -> bool:
    """Say whether a graph being recorded will only see the example's batch size."""
    return _fixed_batch.get()


def is_traced() -> bool:
    """Say whether the running forward is being recorded into a graph (TorchScript, ONNX, ``torch.export``)."""
    if torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():  # type: ignore[attr-defined, no-untyped-call]
        return True
    is_exporting = getattr(torch.compiler, "is_exporting", None)  # absent before torch 2.7
    return is_exporting is not None and bool(is_exporting())


def is_graph() -> bool:
    """Say whether a graph is being made, by a recorder or by ``torch.compile``."""
    is_compiling = getattr(torch.compiler, "is_compiling", None)  # absent before torch 2.3
    return is_traced() or (is_compiling is not None and bool(is_compiling()))


def is_recorded() -> bool:
    """Say whether anything watches single operators: a recorder, ``torch.compile``, a counter, fake or meta tensors."""
    return is_graph() or _python_dispatch._get_current_dispatch_mode() is not None


def is_float32_on_cpu(x: Tensor, weight: Tensor) -> bool:
    """Say whether a layer works in float32 on the CPU, where some forms of it are faster than PyTorch's."""
    return x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and not is_autocast()


def is_autocast() -> bool:
    """Say whether automatic mixed precision is on for the CPU."""
    try:
        return torch.is_autocast_enabled("cpu")
    except TypeError:  # before torch 2.4 each device had a function of its own
        return bool(torch.is_autocast_cpu_enabled())
