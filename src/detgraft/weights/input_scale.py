"""Which pixels a backbone's weights were trained on: decided once, where the weights are read."""

from __future__ import annotations

import contextlib
from pathlib import Path

from safetensors import SafetensorError, safe_open

from detgraft.blocks.backbones.input_scale import UNIT, Scale, as_text, as_words, from_text, stated_scale
from detgraft.blocks.backbones.timm_backbone import TimmBackbone
from detgraft.errors import ArgumentError, WeightsError
from detgraft.plan.weights_files import IMAGENET

KEY = "input_scale"
"""Metadata key under which a file of detgraft's own pretraining says what its weights were trained on."""

IMAGENET_SCALE: Scale = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of ImageNet's pixels, as most training code has them."""


def fit_input(module: TimmBackbone, weights: str | None, asked: str | None) -> str | None:
    """Let a backbone see the pixels that its weights were trained on.

    Args:
        module: The backbone, changed in place.
        weights: Where its weights came from: ``imagenet``, a file, or None for fresh ones.
        asked: What the row says behind ``input=``, or None.

    Returns:
        A sentence for the log, or None where nothing was to be decided.

    Raises:
        ArgumentError: ``input=`` with something that is no scale.
    """
    name = f"timm/{module.name}"
    if asked is not None:
        try:
            scale = from_text(asked, module.c1)
        except ArgumentError as error:
            raise ArgumentError(f"{name}: {error}") from error
        reason = "as input= says"
    elif weights is None:
        return None
    elif weights == IMAGENET:
        scale, reason = stated_scale(module.name, module.c1), "as timm states for these weights"
        if module.c1 != 3 and scale is not None:
            reason = f"timm's for three channels, carried over to {module.c1}"
    else:
        scale, reason = _scale_of_file(module, weights)
    module.set_input_scale(scale)
    return f"{describe(module)}, {reason}"


def describe(module: TimmBackbone) -> str:
    """Say in a sentence which pixels a backbone sees."""
    if module.input_scale is None:
        return f"timm/{module.name}: input: pixels of 0..1, as Ultralytics feeds them"
    return f"timm/{module.name}: input: normalised inside the backbone, {as_words(module.input_scale)}"


def _scale_of_file(module: TimmBackbone, path: str) -> tuple[Scale | None, str]:
    own = _own_record(path)
    if own is not None:
        try:
            return from_text(own, module.c1), "as the weights file says"
        except ArgumentError as error:
            raise WeightsError(f"{path}: its metadata is damaged: {error}") from error
    if module.c1 != 3:
        return None, f"since nothing is stated for {module.c1} channels"
    scale = stated_scale(module.name, module.c1)
    if scale is None:
        return None, "since timm states nothing else"
    return scale, f"as timm states for this architecture; input={UNIT} where the file's weights saw pixels of 0..1"


def _own_record(path: str) -> str | None:
    """Return what a file of detgraft's own pretraining says of its pixels, or None for any other file."""
    if Path(path).suffix.lower() != ".safetensors":
        return None
    metadata: dict[str, str] = {}
    with contextlib.suppress(SafetensorError, OSError, ValueError), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if KEY in metadata:
        return str(metadata[KEY])
    if not str(metadata.get("made_by", "")).startswith("detgraft "):
        return None
    return {"none": UNIT, "imagenet": as_text(IMAGENET_SCALE)}.get(str(metadata.get("normalize")))  # before KEY
