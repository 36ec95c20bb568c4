"""On a GPU in bf16: CARAFE's operator, ConvNeXt V2's training step, whole models in other layouts and compiled.

Beside the rivals, CARAFE's rows hold a floor: a copy that moves as many bytes as every input read once and every output
written once. Rival / ours of at least 0.5 there means at least half of the memory's bandwidth.
"""

from __future__ import annotations

import copy
import functools
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import torch

from benchmarks.cases import carafe, convnextv2
from benchmarks.cases.models import channels_last, compiled, training_step
from benchmarks.measure import Case, Work, unchecked, within
from detgraft.kernels.policy import SWITCH
from detgraft.upstream.model.models import build

FLOOR = "memory floor"


def carafe_forms(
    shape: Sequence[int], backward: bool, device: str = "cuda", dtype: torch.dtype = torch.bfloat16
) -> Mapping[str, Work]:
    x, y, mask = math.prod(shape), 4 * math.prod(shape), 4 * 25 * shape[0] * shape[2] * shape[3]
    moved = x + mask + y + ((y + x + mask) + (x + mask) if backward else 0)  # values: forward, then read and written
    forms = dict(carafe.forms(shape, backward, device, dtype))
    ours = forms.pop("ours")
    switched = {name: _switched(ours, value) for name, value in (("ours", "1"), ("switch off", "0"))}
    if device == "cuda":  # the kernels that float32 takes, which do without the tensor cores
        scalar = _switched(ours, "1")
        switched["scalar kernels"] = within(lambda: mock.patch("detgraft.kernels.carafe_bands.DTYPES", ()), scalar)
    return {**switched, **forms, FLOOR: copying(moved * dtype.itemsize, device)}


def copying(size: int, device: str) -> Work:
    """Return the work of moving ``size`` bytes: half of them read, half of them written."""
    source = torch.zeros(size // 2, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return unchecked(lambda: target.copy_(source))


def convnext_forms(
    size: str, batch: int, pixels: int, device: str = "cuda", dtype: torch.dtype = torch.bfloat16
) -> Mapping[str, Work]:
    forms = _autocast(convnextv2.forms(size, batch, True, pixels, device), device, dtype)
    ours = forms.pop("ours")
    switched = {name: _switched(ours, value) for name, value in (("ours", "1"), ("switch off", "0"))}
    return {**switched, **forms}


def model_forms(
    graft: str, pictures: int, size: int, device: str = "cuda", dtype: torch.dtype = torch.bfloat16
) -> Mapping[str, Work]:
    """One training step as it is, channels-last, and compiled; their losses are compared."""
    torch.manual_seed(0)
    model: Any = build(f"yolo11n+{graft}").to(device)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    plain = copy.deepcopy(model)

    forms = {
        "ours": training_step(model, None, pictures, size),
        "channels-last": training_step(last, channels_last(last), pictures, size),
        "torch.compile": training_step(plain, compiled(plain), pictures, size),
    }
    return _autocast(forms, device, dtype)


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
            warmups=3,
        )
        for graft in ("carafe", "dynamicconv", "convnextv2_atto", "repvit_m0_9")
    ]
    return found


def _autocast(forms: Mapping[str, Work], device: str, dtype: torch.dtype) -> dict[str, Work]:
    context = functools.partial(torch.autocast, device, dtype)
    return {name: within(context, work) for name, work in forms.items()}


def _switched(work: Work, value: str) -> Work:
    return within(lambda: mock.patch.dict(os.environ, {SWITCH: value}), work)
