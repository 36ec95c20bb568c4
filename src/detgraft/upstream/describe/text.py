"""Layers that read a text's embedding beside the picture's features: those of YOLO-World's neck.

``WorldModel`` hands the embedding along from layer to layer; whoever runs layers one by one must do as it does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from detgraft.upstream.release.capabilities import stock_module

CLASSES = 80
CHANNELS = 512
"""Shape of the embedding that ``WorldModel`` begins with: so many texts, so many numbers for each."""

LED_BY_TEXT = ("World", "YOLOE")
"""What the names of heads begin with that compare features with a text."""

READS_TEXT, CHANGES_TEXT = "C2fAttn", "ImagePoolingAttn"


def empty_text(image: Tensor) -> Tensor:
    """Return an embedding of nothing for as many pictures, shape ``(batch, 80, 512)``."""
    return torch.zeros(image.shape[0], CLASSES, CHANNELS, device=image.device)


def is_kind(layer: object, name: str) -> bool:
    """Say whether a layer is a stock module of that name."""
    kind = stock_module(name)
    return kind is not None and isinstance(layer, kind)


def run_layer(layer: Any, x: Any, text: Tensor) -> tuple[Any, Tensor]:
    """Run one layer as ``WorldModel`` does.

    Args:
        layer: The layer.
        x: Its input.
        text: The embedding so far.

    Returns:
        The layer's output and the embedding for the layers behind it.
    """
    if is_kind(layer, CHANGES_TEXT):
        return x, layer(x, text)
    return (layer(x, text) if is_kind(layer, READS_TEXT) else layer(x)), text
