"""On a GPU in bf16: CARAFE's operator, ConvNeXt V2's training step, whole models in other layouts and compiled.

Beside the rivals, CARAFE's rows hold a floor: a copy that moves as many bytes as every input read once and every output
written once. Rival / ours of at least 0.5 there means at least half of the memory's bandwidth.
"""

from __future__ import annotations

import copy
import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.cases import carafe, convnextv2
from benchmarks.cases.models import training_step, unchecked
from benchmarks.measure import Case, Work
from detgraft.upstream.models import build

FLOOR = "memory floor"
SWITCH = "DETGRAFT_TRITON_CONVNEXT"


def carafe_forms(
    shape: Sequence[int], backward: bool, device: str = "cuda", dtype: torch.dtype = torch.bfloat16
) -> Mapping[str, Work]:
    x, y, mask = math.prod(shape), 4 * math.prod(shape), 4 * 25 * shape[0] * shape[2] * shape[3]
    moved = x + mask + y + ((y + x + mask) + (x + mask) if backward else 0)  # values: forward, then read and written
    forms = carafe.forms(shape, backward, device, dtype)
    return {**forms, FLOOR: copying(moved * dtype.itemsize, device)}


def copying(size: int, device: str) -> Work:
    """Return the work of moving ``size`` bytes: half of them read, half of them written."""
    source = torch.zeros(size // 2, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return unchecked(lambda: target.copy_(source))


def convnext_forms(
    size: str, batch: int, pixels: int, device: str = "cuda", dtype: torch.dtype = torch.bfloat16
) -> Mapping[str, Work]:
    forms = convnextv2.forms(size, batch, True, pixels, device)
    forms = {name: _autocast(work, device, dtype) for name, work in forms.items()}
    return {"ours": _switched(forms["ours"], "1"), "switch off": _switched(forms["ours"], "0"), **_rivals(forms)}


def model_forms(
    graft: str, pictures: int, size: int, device: str = "cuda", dtype: torch.dtype = torch.bfloat16
) -> Mapping[str, Work]:
    """One training step as it is, channels-last, and compiled; their losses are compared."""
    torch.manual_seed(0)
    model: Any = build(f"yolo11n+{graft}").to(device)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    plain = copy.deepcopy(model)

    def in_layout(batch: dict[str, Any]) -> Any:
        return last({**batch, "img": batch["img"].contiguous(memory_format=torch.channels_last)})

    forms = {
        "ours": training_step(model, None, pictures, size),
        "channels-last": training_step(last, in_layout, pictures, size),
        "torch.compile": training_step(plain, torch.compile(plain, dynamic=False), pictures, size),
    }
    return {name: _autocast(work, device, dtype) for name, work in forms.items()}


def cases() -> list[Case]:
    if not torch.cuda.is_available():
        return []
    found = [
        Case(
            f"cuda/carafe {'x'.join(map(str, shape))} bf16/{'forward+backward' if backward else 'forward'}",
            functools.partial(carafe_forms, shape, backward),
            targets={"unfold": 10.0, FLOOR: 0.5} if backward else {},
            tolerance=2e-2,
            rounds=25,
            memory_target={"unfold": 1 / 8} if backward else {},
            device="cuda",
        )
        for shape in ((16, 128, 80, 80), (32, 256, 80, 80))
        for backward in (False, True)
    ]
    found.append(
        Case(
            "cuda/convnextv2_tiny batch 16 at 640 bf16/training step",
            functools.partial(convnext_forms, "tiny", 16, 640),
            targets={"tutorial": 1.5, "timm": 1.2},
            tolerance=0.1,  # bf16 through 18 blocks, relative to each gradient's largest value
            rounds=15,
            memory_target={"tutorial": 1.0, "timm": 1.0},
            device="cuda",
        )
    )
    found += [
        Case(
            f"cuda/yolo11n+{graft} batch 16 at 640 bf16/training step",
            functools.partial(model_forms, graft, 16, 640),
            tolerance=2e-2,
            rounds=15,
            device="cuda",
        )
        for graft in ("carafe", "dynamicconv", "convnextv2_atto", "repvit_m0_9")
    ]
    return found


def _autocast(work: Work, device: str, dtype: torch.dtype) -> Work:
    def run() -> Sequence[Tensor] | None:
        with torch.autocast(device, dtype):
            return work()

    return run


def _switched(work: Work, value: str) -> Work:
    def run() -> Sequence[Tensor] | None:
        with mock.patch.dict(os.environ, {SWITCH: value}):
            return work()

    return run


def _rivals(forms: Mapping[str, Callable[..., Any]]) -> dict[str, Work]:
    return {name: work for name, work in forms.items() if name != "ours"}
