"""RepViT fused against unfused."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping

import torch

from benchmarks.measure import Case, Work, without_gradients
from detgraft.blocks.backbones.repvit import repvit


def _build(batch: int) -> Mapping[str, Work]:
    torch.manual_seed(0)
    unfused = repvit("m0_9", 3).eval()
    fused = copy.deepcopy(unfused).fuse()
    image = torch.randn(batch, 3, 320, 320)
    return {
        "ours": without_gradients(lambda: fused(image)),
        "unfused": without_gradients(lambda: unfused(image)),
    }


def cases() -> list[Case]:
    return [
        Case(
            f"repvit/m0_9 batch {batch} at 320/forward",
            functools.partial(_build, batch),
            targets={"unfused": 1.3},
            tolerance=1e-4,
            seconds=15,
        )
        for batch in (1, 8)
    ]
