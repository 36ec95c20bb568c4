"""Measures latency: warm-up first, then the median of several passes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UP = 2
PASSES = 5


def median_ms(model: Any, pictures: Tensor, passes: int = PASSES) -> float:
    """Return the median time of a forward pass in milliseconds, in evaluation mode as the model is set up.

    Args:
        model: A model.
        pictures: Its input, on the model's device.
        passes: Number of measured passes; two more warm it up.
    """

    def run() -> None:
        with torch.no_grad():
            model(pictures)
        if pictures.is_cuda:
            torch.cuda.synchronize(pictures.device)

    return median_of(run, passes)


def median_of(run: Callable[[], object], passes: int = PASSES) -> float:
    """Return the median duration of a function in milliseconds, after warm-up."""
    for _ in range(WARM_UP):
        run()
    times = []
    for _ in range(passes):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)
