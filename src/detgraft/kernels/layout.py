"""The memory layout in which convolutions run fastest: channels-last on the CPU.

oneDNN's convolutions take channels-last features as they are, and rearrange others before and after. A convolution
answers in the layout of its input, so one conversion of the picture carries through a whole model; no weight changes.
Figures: ``benchmarks/RESULTS.md``, ``python -m benchmarks --only layouts``. CUDA keeps the layout that it is given: no
figure from there yet.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detgraft.kernels.recording import is_recorded


def prefers_channels_last(x_BCHW: Tensor) -> bool:
    """Say whether what follows runs faster channels-last; never while operators are recorded, counted or compiled."""
    return x_BCHW.ndim == 4 and x_BCHW.device.type == "cpu" and x_BCHW.is_floating_point() and not is_recorded()


def in_fast_layout(x_BCHW: Tensor) -> Tensor:
    """Return the same values in the layout in which what follows runs fastest.

    Args:
        x_BCHW: Pictures or features ``(B, C, H, W)``; anything else comes back as it is.
    """
    return x_BCHW.contiguous(memory_format=torch.channels_last) if prefers_channels_last(x_BCHW) else x_BCHW


def layout_of(x_BCHW: Tensor) -> torch.memory_format:
    """Return the layout that results of the same kind should have: channels-last only where it is unambiguous."""
    is_last = x_BCHW.is_contiguous(memory_format=torch.channels_last) and not x_BCHW.is_contiguous()
    return torch.channels_last if is_last else torch.contiguous_format
