"""What an arm costs. The study asks only here, so that another room can come to own the measuring."""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What an arm costs; None where it was not measured.

    Args:
        params: float | None of parameters.
        gflops: GFLOPs of one picture at ``imgsz`` by torch's FlopCounterMode.
        latency_ms: Median milliseconds of one forward of one picture, fused, without post-processing.
        memory_mib: Peak GPU memory of that forward in MiB; None on the CPU.
        imgsz: Side of the picture in pixels.
        device: What it was measured on.
    """

    params: int
    gflops: float | None
    latency_ms: float | None
    memory_mib: float | None
    imgsz: int
    device: str


_WARM_UP = 5
_RUNS = 20
_SECONDS = 10.0  # latency stops sampling after this long, for large models on small machines


def measure(model: Any, imgsz: int, device: str) -> Cost:
    """Measure parameters, operations, latency and memory of a model.

    Args:
        model: The Ultralytics model object (``YOLO(...).model``); it is not changed.
        imgsz: Side of the square picture in pixels.
        device: ``cpu`` or a CUDA device such as ``cuda:0``.
    """
    import torch

    from detgraft.measure.cost import show

    summary = show(model, imgsz=imgsz)
    ready = copy.deepcopy(model).float().eval().fuse(verbose=False).to(device)
    picture_1CHW = torch.rand(1, int(ready.yaml.get("channels", 3)), imgsz, imgsz, device=device)
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    times: list[float] = []
    begin = time.perf_counter()
    with torch.inference_mode():
        for run in range(_WARM_UP + _RUNS):
            start = time.perf_counter()
            ready(picture_1CHW)
            if on_gpu:
                torch.cuda.synchronize(device)
            if run >= _WARM_UP or time.perf_counter() - begin > _SECONDS:
                times.append(time.perf_counter() - start)
            if time.perf_counter() - begin > _SECONDS:
                break
    return Cost(
        params=summary.params,
        gflops=summary.gflops,
        latency_ms=1000 * statistics.median(times),
        memory_mib=torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else None,
        imgsz=imgsz,
        device=torch.cuda.get_device_name(device) if on_gpu else "cpu",
    )
