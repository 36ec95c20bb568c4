"""CARAFE's operator against the high-resolution unfold, plain gathering, and mmcv where it is installed."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.measure import Case, Work, training_step, without_gradients
from benchmarks.rivals import unfolded_carafe
from detgraft.kernels.carafe import carafe, plain_carafe

SHAPES = [(4, 128, 40, 40), (8, 256, 40, 40)]


def _operators() -> dict[str, Callable[[Tensor, Tensor, int, int], Tensor]]:
    found = {"ours": carafe, "unfold": unfolded_carafe, "gathered": plain_carafe}
    try:
        mmcv = importlib.import_module("mmcv.ops.carafe")
    except ImportError:
        return found
    return {**found, "mmcv": lambda x, mask, k, s: mmcv.carafe(x, mask, k, 1, s)}


def forms(
    shape: Sequence[int], backward: bool, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Mapping[str, Work]:
    torch.manual_seed(0)
    batch, channels, height, width = shape
    x = torch.randn(*shape, device=device, dtype=dtype, requires_grad=True)
    mask = torch.softmax(torch.randn(batch, 25, 2 * height, 2 * width, device=device), 1).to(dtype).requires_grad_()
    cotangent = torch.randn(batch, channels, 2 * height, 2 * width, device=device, dtype=dtype)

    def work(form: Callable[[Tensor, Tensor, int, int], Tensor]) -> Work:
        call = lambda: [form(x, mask, 5, 2)]  # noqa: E731
        return training_step(call, [x, mask], [cotangent]) if backward else without_gradients(call)

    return {name: work(form) for name, form in _operators().items()}


def cases() -> list[Case]:
    return [
        Case(
            f"carafe/{'x'.join(map(str, shape))}/{'forward+backward' if backward else 'forward'}",
            functools.partial(forms, shape, backward),
            targets={"unfold": 5.0 if backward else 8.0},
            memory_target={"unfold": 1 / 8} if backward else {},
            rounds=7,
        )
        for shape in SHAPES
        for backward in (False, True)
    ]
