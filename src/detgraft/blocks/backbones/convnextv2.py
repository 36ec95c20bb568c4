"""ConvNeXt V2 backbones: eight sizes, with a width factor.

Paper: ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders (arXiv 2301.00808).
Source: facebookresearch/ConvNeXt-V2, ``models/convnextv2.py`` (MIT), through timm's implementation (Apache-2.0).
Weights: the published ones are CC-BY-NC-4.0; none are loaded here.
Differences: a factor on the widths; the features are the raw outputs of the four stages, as in the official code
before its final norm, and that norm and the classifier do not exist.
"""

from __future__ import annotations

import math

from detgraft.blocks.backbones.timm_backbone import TimmBackbone
from detgraft.errors import ArgumentError, CatalogError, nearest

DIMS: dict[str, tuple[int, int, int, int]] = {
    "atto": (40, 80, 160, 320),
    "femto": (48, 96, 192, 384),
    "pico": (64, 128, 256, 512),
    "nano": (80, 160, 320, 640),
    "tiny": (96, 192, 384, 768),
    "base": (128, 256, 512, 1024),
    "large": (192, 384, 768, 1536),
    "huge": (352, 704, 1408, 2816),
}


def convnextv2_spec(size: str, width: float = 1.0) -> tuple[str, dict[str, object]]:
    """Return the timm name and arguments of a ConvNeXt V2 backbone.

    Args:
        size: One of `DIMS`.
        width: Factor on the official channels; each becomes ``int(channels * width)``.

    Raises:
        CatalogError: for an unknown size.
        ArgumentError: for a width that is no positive number or leaves a stage without channels.
    """
    if size not in DIMS:
        raise CatalogError(f"unknown ConvNeXt V2 size {size!r}; there are {', '.join(DIMS)}.{nearest(size, DIMS)}")
    check_width("convnextv2", size, width)
    dims = [int(channels * width) for channels in DIMS[size]]
    if min(dims) < 1:
        raise ArgumentError(
            f"convnextv2_{size}: width {width} leaves the first stage without channels; "
            f"it must be at least {1 / DIMS[size][0]:.4f}"
        )
    return f"convnextv2_{size}", {} if tuple(dims) == DIMS[size] else {"dims": dims}


def convnextv2(size: str, c1: int, width: float = 1.0) -> TimmBackbone:
    """Build a ConvNeXt V2 backbone with features at reductions 4, 8, 16 and 32.

    Args:
        size: One of `DIMS`.
        c1: Input channels.
        width: Factor on the official channels; each becomes ``int(channels * width)``.

    Raises:
        CatalogError: for an unknown size.
        ArgumentError: for a width that is no positive number or leaves a stage without channels.
    """
    name, model_args = convnextv2_spec(size, width)
    return TimmBackbone(c1, name, model_args=model_args)


def check_width(family: str, size: str, width: float) -> None:
    """Raise `ArgumentError` unless ``width`` is a positive, finite number."""
    if isinstance(width, bool) or not isinstance(width, int | float) or not math.isfinite(width) or width <= 0:
        raise ArgumentError(f"{family}_{size}: width must be a positive number, found {width!r}")
