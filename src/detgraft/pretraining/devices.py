"""Devices, precision and processes of a run, through Lightning Fabric; and the wish to stop.

Importing this needs the extra ``pretrain`` (Lightning Fabric, Apache-2.0).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from detgraft.base.extras import missing
from detgraft.errors import ArgumentError
from detgraft.pretraining.settings import PRECISIONS, Options

try:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision
except ImportError as error:
    raise missing("lightning_fabric") from error

__all__ = ["Fabric", "StopRequest", "make_fabric"]


def make_fabric(options: Options) -> tuple[Fabric, torch.amp.GradScaler | None]:
    """Return a Fabric for the wanted devices and precision, and the loss scaler of fp16.

    Under ``torchrun`` the number of processes comes from its environment variables.

    Raises:
        ArgumentError: If the device or the precision is not available here.
    """
    accelerator, devices = _devices(options.device)
    nodes = 1
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        devices, nodes = local, int(os.environ["WORLD_SIZE"]) // local
    several = nodes > 1 or (devices if isinstance(devices, int) else len(devices)) > 1
    precision = options.precision or ("bf16" if accelerator == "cuda" and torch.cuda.is_bf16_supported() else "fp32")
    scaler: torch.amp.GradScaler | None = None
    plugins: list[Any] = []
    if precision == "fp16":
        if accelerator != "cuda":
            raise ArgumentError(f"precision=fp16 needs a CUDA device, found {accelerator}; use bf16 or fp32")
        scaler = _loss_scaler()
        plugins = [MixedPrecision("16-mixed", "cuda", scaler=scaler)]
    chosen: Any = None if plugins else PRECISIONS[precision]
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if several else "auto",
        precision=chosen,
        plugins=plugins or None,
    )
    return fabric, scaler


def _loss_scaler() -> torch.amp.GradScaler:
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda")
    return torch.cuda.amp.GradScaler()  # before torch 2.3


def _devices(device: str | int | None) -> tuple[str, int | list[int]]:
    """Return Fabric's accelerator and devices for what the user wrote."""
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    text = "" if device is None else str(device).strip().lower()
    if text == "":
        if cuda:
            return "cuda", 1
        return ("mps" if torch.backends.mps.is_available() else "cpu"), 1
    if text in ("cpu", "mps"):
        if text == "mps" and not torch.backends.mps.is_available():
            raise ArgumentError("device=mps is not available here")
        return text, 1
    numbers = text.removeprefix("cuda").removeprefix(":") or "0"
    try:
        indices = [int(number) for number in numbers.split(",")]
    except ValueError:
        raise ArgumentError(
            f"device must be 'cpu', 'mps', 'cuda' or GPU numbers like 0 or 0,1; found {device!r}"
        ) from None
    missing = [index for index in indices if not 0 <= index < cuda]
    if missing:
        raise ArgumentError(f"device={device!r}: there is no GPU number {missing[0]}; this machine shows {cuda} GPU(s)")
    return "cuda", indices


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a wish to stop after the current step; the second one acts at once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.signal: int | None = None
        self._say = say

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the block runs; outside the main thread signals cannot be caught and nothing is changed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        self._say("stopping soon; a checkpoint will be written (again to stop at once)")

    def exception(self) -> BaseException:
        """Return what to raise once everything is saved."""
        return KeyboardInterrupt() if self.signal == signal.SIGINT else SystemExit(128 + int(self.signal or 0))
