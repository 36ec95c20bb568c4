"""RepViT backbones: six sizes, with a width factor.

Paper: RepViT: Revisiting Mobile CNN From ViT Perspective (arXiv 2307.09283).
Source: THU-MIG/RepViT, ``model/repvit.py`` (Apache-2.0), through timm's implementation (Apache-2.0). Weights: the
published ones are Apache-2.0; none are loaded here.
Differences: a factor on the widths; the classifier does not exist. The size m0_6, which timm does not have, follows
the official table of block settings. A feature is what the official detection code takes: a stage's output before the
extra block that precedes the next downsampling.
"""

from __future__ import annotations

from detgraft.blocks.backbones.convnextv2 import check_width
from detgraft.blocks.backbones.timm_backbone import TimmBackbone
from detgraft.errors import CatalogError, nearest

Four = tuple[int, int, int, int]
# Channels and blocks per stage; the blocks do not count each downsampling unit, which brings a block of its own.
SETTINGS: dict[str, tuple[Four, Four]] = {
    "m0_6": ((40, 80, 160, 320), (1, 1, 8, 1)),
    "m0_9": ((48, 96, 192, 384), (2, 2, 14, 2)),
    "m1_0": ((56, 112, 224, 448), (2, 2, 14, 2)),
    "m1_1": ((64, 128, 256, 512), (2, 2, 12, 2)),
    "m1_5": ((64, 128, 256, 512), (4, 4, 24, 4)),
    "m2_3": ((80, 160, 320, 640), (6, 6, 34, 2)),
}
_TIMM_HAS_NO = {"m0_6"}


def repvit_spec(size: str, width: float = 1.0) -> tuple[str, dict[str, object]]:
    """Return the timm name and arguments of a RepViT backbone.

    Args:
        size: One of `SETTINGS`.
        width: Factor on the official channels, which are then rounded to a multiple of 8.

    Raises:
        CatalogError: for an unknown size.
        ArgumentError: for a width that is no positive number.
    """
    if size not in SETTINGS:
        raise CatalogError(f"unknown RepViT size {size!r}; there are {', '.join(SETTINGS)}.{nearest(size, SETTINGS)}")
    check_width("repvit", size, width)
    channels, depth = SETTINGS[size]
    scaled = [make_divisible(c * width) for c in channels]
    if size in _TIMM_HAS_NO:
        return "repvit_m0_9", {"embed_dim": scaled, "depth": list(depth)}
    return f"repvit_{size}", {} if tuple(scaled) == channels else {"embed_dim": scaled}


def repvit(size: str, c1: int, width: float = 1.0) -> TimmBackbone:
    """Build a RepViT backbone with features at reductions 4, 8, 16 and 32.

    Args:
        size: One of `SETTINGS`.
        c1: Input channels.
        width: Factor on the official channels, which are then rounded to a multiple of 8.

    Raises:
        CatalogError: for an unknown size.
        ArgumentError: for a width that is no positive number.
    """
    name, model_args = repvit_spec(size, width)
    return TimmBackbone(c1, name, model_args=model_args)


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of ``divisor`` (at least one), but never down by more than a tenth."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded
