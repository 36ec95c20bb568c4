"""The scale of pixels that a backbone's weights were trained on, applied in front of it.

Ultralytics feeds a detector RGB pixels as 0..1. Most published weights expect a mean to be subtracted and a deviation
to be divided by; timm states both for each of its weights. The subtraction cannot be folded into the first
convolution, whose zero padding stands for the mean colour and not for black.

No paper: plumbing. Source: the formula of torchvision's ``Normalize``, computed in the same order. No weights.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
from typing import Any

import timm
import torch
from torch import Tensor, nn

from detgraft.errors import ArgumentError

UNIT = "unit"
"""What a row says (``input=unit``) for pixels of 0..1, as Ultralytics feeds them."""

Scale = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation of each channel, in units of pixels of 0..1."""


class InputScale(nn.Module):
    """``(x - mean) / deviation`` for each channel.

    The numbers are constants: they are no part of the state dict, and a change of precision there and back leaves them
    as they were.

    Args:
        scale: Mean and deviation of each channel.
    """

    mean_C11: Tensor
    deviation_C11: Tensor

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.scale = scale
        for name, values in zip(("mean_C11", "deviation_C11"), scale, strict=True):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the pixels as the weights expect them, same shape."""
        return (x_BCHW - self.mean_C11) / self.deviation_C11

    def extra_repr(self) -> str:
        """Show mean and deviation."""
        return as_words(self.scale)

    def _apply(self, *args: Any, **kwargs: Any) -> InputScale:
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        for name, values in zip(("mean_C11", "deviation_C11"), self.scale, strict=True):
            like = self._buffers[name]
            assert like is not None
            self._buffers[name] = torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1)
        return self


def as_text(scale: Scale) -> str:
    """Write a scale as a row of a description has it: ``0.5 0.5 0.5/0.5 0.5 0.5``."""
    return "/".join(" ".join(map(repr, values)) for values in scale)


def as_words(scale: Scale) -> str:
    """Write a scale for people."""
    return "mean {}, deviation {}".format(*(", ".join(f"{value:g}" for value in values) for values in scale))


def from_text(text: str, channels: int) -> Scale | None:
    """Read what `as_text` wrote, or ``unit``, which is None.

    Args:
        text: Means, a slash, deviations; numbers apart by spaces.
        channels: Number of each that there must be.

    Raises:
        ArgumentError: Anything else.
    """
    if text.strip() == UNIT:
        return None
    try:
        mean, deviation = (tuple(float(word) for word in part.split()) for part in text.split("/"))
    except ValueError:
        mean, deviation = (), ()
    sound = all(map(math.isfinite, (*mean, *deviation))) and min(deviation, default=0) > 0
    if not sound or len(mean) != channels or len(deviation) != channels:
        half = " ".join(["0.5"] * channels)
        raise ArgumentError(
            f"input= is '{UNIT}' for pixels of 0..1, or {channels} means and {channels} deviations of such pixels, as "
            f"in 'input={half}/{half}'; found {text!r:.120}"
        )
    return mean, deviation


def stated_scale(name: str, channels: int) -> Scale | None:
    """Return the scale that timm states for a model's weights, or None where it states none, or 0..1.

    Args:
        name: timm model name, optionally with a pretrained tag.
        channels: Input channels. For other numbers than timm's own they follow how timm fits the first convolution:
            its kernels are summed for one channel and repeated for more than three.
    """
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if config is None or not config.mean or not config.std or len(config.mean) != len(config.std):
        return None
    parts = [tuple(float(value) for value in values) for values in (config.mean, config.std)]
    if channels == 1:
        parts = [(sum(values) / len(values),) for values in parts]
    mean, deviation = (tuple(values[i % len(values)] for i in range(channels)) for values in parts)
    is_unit = not any(mean) and all(value == 1 for value in deviation)
    return None if is_unit else (mean, deviation)
