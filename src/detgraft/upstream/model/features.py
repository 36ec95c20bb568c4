"""Which layers of a model have one feature, of which an embedding can be taken."""

from __future__ import annotations

from typing import Any

from torch import nn

from detgraft.errors import ArgumentError
from detgraft.plan.rows import PYRAMID_LAYERS, PYRAMID_STRIDES


def refuse_embedding(model: nn.Module, embed: Any) -> None:
    """Raise where an embedding is asked of a layer that has none; Ultralytics fails inside torch or says nothing.

    Args:
        model: An Ultralytics model.
        embed: Layer numbers, or nothing.

    Raises:
        ArgumentError: A backbone's list of features, or no layer of the model.
    """
    layers: Any = getattr(model, "model", None)
    if not embed or not isinstance(layers, nn.Sequential):
        return
    numbers = list(embed) if isinstance(embed, (list, tuple, set, frozenset)) else [embed]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(layers):
            raise ArgumentError(f"embed takes layer numbers from 0 to {len(layers) - 1}, found {number!r:.40}")
        layer: Any = layers[number]
        following: Any = layers[number + 1] if number + 1 < len(layers) else None
        if getattr(following, "type", "") == "Feature" and not hasattr(layer, "reductions") and layer.type != "Feature":
            raise ArgumentError(
                f"layer {number} is '{layer.type}', whose output is a list of features, so it has no embedding; its "
                f"features are layers {number + 1} to {number + len(layer.channels)}"
            )
        if hasattr(layers[number], "reductions"):
            slots = ", ".join(f"{number + k + 1} (stride {s})" for k, s in enumerate(PYRAMID_STRIDES))
            raise ArgumentError(
                f"layer {number} is the backbone '{layers[number].type}', whose output is a list of features, so it "
                f"has no embedding; its features are layers {slots}, and row {number + PYRAMID_LAYERS} follows"
            )
