"""DynamicConv against a plain convolution of the same shape, and against the grouped form."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import nn

from benchmarks.measure import Case, Work, training_step, unchecked, without_gradients
from benchmarks.rivals import GroupedDynamicConv
from detgraft.blocks.dynamic_conv import DynamicConv

SHAPES = [(8, 64, 80, 1), (8, 64, 80, 2), (8, 128, 40, 1), (8, 128, 40, 2), (8, 256, 20, 1)]


LAYOUTS = {"": torch.contiguous_format, "channels-last ": torch.channels_last}


def _build(shape: tuple[int, int, int, int], backward: bool, layout: torch.memory_format) -> Mapping[str, Work]:
    torch.manual_seed(0)
    batch, channels, side, stride = shape
    x = torch.randn(batch, channels, side, side).contiguous(memory_format=layout).requires_grad_()
    ours = DynamicConv(channels, channels, 3, stride)
    plain = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
    with torch.no_grad():
        cotangent = torch.randn_like(plain(x))

    def work(form: nn.Module) -> Work:
        if not backward:
            return without_gradients(lambda: [form(x)])
        return training_step(lambda: [form(x)], [x, *form.parameters()], [cotangent])

    return {"ours": work(ours), "plain convolution": unchecked(work(plain)), "grouped": work(GroupedDynamicConv(ours))}


def cases() -> list[Case]:
    return [
        Case(
            f"dynamicconv/{b}x{c}x{side}x{side} stride {s}/{name}{'forward+backward' if backward else 'forward'}",
            functools.partial(_build, (b, c, side, s), backward, layout),
            targets={} if c == 256 or backward else {"plain convolution": 1 / 1.2},
            rounds=25,
            seconds=10,
        )
        for b, c, side, s in SHAPES
        for name, layout in LAYOUTS.items()
        for backward in (False, True)
    ]
