"""What an arm costs. The study asks only here, so that another room can come to own the measuring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from detgraft.measure.load import LOADED


@dataclass(frozen=True)
class Cost:
    """What an arm costs; None where it was not measured.

    Args:
        params: Number of parameters.
        gflops: GFLOPs of one picture at ``imgsz`` by torch's FlopCounterMode.
        latency_ms: Median milliseconds of one forward of one picture, fused, without post-processing.
        memory_mib: Peak GPU memory of that forward in MiB; None on the CPU.
        imgsz: Side of the picture in pixels.
        device: What it was measured on.
        load: Share of the machine's processors that other processes used while latency was measured, 0 to 1; a latency
            with more than :data:`detgraft.measure.load.LOADED` says little.
        input: Which pixels its grafted backbone expects, in words; empty where it has none.
        steady: Whether the latency had settled when it was taken; None where that was not recorded.
    """

    params: int
    gflops: float | None
    latency_ms: float | None
    memory_mib: float | None
    imgsz: int
    device: str
    load: float | None = None
    input: str = ""
    steady: bool | None = None

    @property
    def loaded(self) -> bool:
        """Whether a latency was measured while other processes kept the machine busy."""
        return self.latency_ms is not None and (self.load or 0.0) > LOADED

    @property
    def unsettled(self) -> bool:
        """Whether a latency had not settled when it was taken."""
        return self.latency_ms is not None and self.steady is False

    @property
    def doubtful(self) -> bool:
        """Whether a latency says little, for one reason or the other."""
        return self.loaded or self.unsettled

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Cost:
        """Rebuild it from a file's values; what a later version of detgraft added is left out, nothing rests on it.

        Raises:
            TypeError: A figure is missing.
        """
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in raw.items() if key in known})


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

    from detgraft.measure.layers import image_channels, layers_of
    from detgraft.measure.timing import forward_latency
    from detgraft.upstream.service.models import fused_copy, pixels_of

    channels = image_channels(model)
    _, gflops = layers_of(model, (1, channels, imgsz, imgsz))
    ready = fused_copy(model).to(device)
    picture_1CHW = torch.rand(1, channels, imgsz, imgsz, device=device)
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    latency = forward_latency(ready, picture_1CHW, warm_up=_WARM_UP, passes=_RUNS, seconds=_SECONDS)
    return Cost(
        params=sum(parameter.numel() for parameter in model.parameters()),
        gflops=gflops,
        latency_ms=latency.median_ms,
        memory_mib=torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else None,
        imgsz=imgsz,
        device=torch.cuda.get_device_name(device) if on_gpu else "cpu",
        load=latency.load,
        steady=latency.steady,
        input="; ".join(pixels_of(model)),
    )
