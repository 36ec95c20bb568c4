"""Shows what a model costs, layer by layer: parameters, output shapes, and operations that were counted, not estimated.

thop's figure, which Ultralytics prints, is given beside the counted one under its own name.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detgraft.base.notebook import html_table
from detgraft.base.values import read_size
from detgraft.measure.layers import LayerCost, Shape, image_channels, layers_of, short_name, strides_read
from detgraft.plan.losses import sentences
from detgraft.upstream.model.input_scales import input_notes
from detgraft.upstream.model.marks import notes_on
from detgraft.upstream.model.models import open_model, thop_gflops
from detgraft.upstream.model.sizes import check_size


@dataclasses.dataclass(frozen=True)
class Summary:
    """The cost of a whole model.

    Args:
        model: Name of the model.
        imgsz: Height and width in pixels.
        params: Number of parameters.
        gflops: Operations counted by FlopCounterMode, in units of 1e9.
        gflops_thop: What Ultralytics prints (thop), or None where it counts nothing.
        stride: The strides of the features that the head reads.
        layers: All layers.
        notes: What else is to be known, in sentences: which pixels a backbone expects, how a row was read.
    """

    model: str
    imgsz: tuple[int, int]
    params: int
    gflops: float
    gflops_thop: float | None
    stride: list[int]
    layers: list[LayerCost]
    notes: list[str] = dataclasses.field(default_factory=list)

    def _repr_html_(self) -> str:
        """Show the layers as a table in a notebook."""
        height, width = self.imgsz
        rows = [
            [
                layer.index,
                short_name(layer.module),
                ", ".join(map(str, layer.from_)) if isinstance(layer.from_, list) else layer.from_,
                _sizes(layer.shape),
                f"{layer.params:,}",
                f"{layer.gflops:.3f}",
            ]
            for layer in self.layers
        ]
        thop = "" if self.gflops_thop is None else f"; {self.gflops_thop:.2f} by thop"
        total = (
            f"{self.params:,} parameters, {self.gflops:.3f} GFLOPs{thop}, strides {', '.join(map(str, self.stride))}"
        )
        headings = ("layer", "module", "from", "output", "parameters", "GFLOPs")
        return html_table(f"{self.model} at {height}x{width}", headings, rows, [total, *self.notes], right=4)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; a layer's ``from_`` is called ``from`` there."""
        data = dataclasses.asdict(self)
        data["imgsz"] = list(self.imgsz)
        for layer in data["layers"]:
            layer["from"] = layer.pop("from_")
        return data


def _sizes(shape: Shape) -> str:
    if all(isinstance(size, int) for size in shape):
        return "x".join(map(str, shape))
    return ", ".join(_sizes(entry) for entry in shape if entry)


def show(
    model: str | Path | nn.Module | dict[str, Any],
    imgsz: int | tuple[int, int] = 640,
    nc: int | None = None,
    ch: int = 3,
    trust: bool = False,
) -> Summary:
    """Measure the cost of a model, layer by layer.

    Args:
        model: A model YAML (own, stock or of the zoo), a checkpoint, or a model object.
        imgsz: Image size in pixels: one number, or height and width.
        nc: Number of classes, where a description is given; its own number by default.
        ch: Number of image channels, where a description is given.
        trust: Let a checkpoint run the code that it holds.

    Returns:
        The cost; the model itself is not changed.

    Raises:
        DetgraftError: The model cannot be built, or the size is none or no multiple of its stride.
    """
    size = read_size(imgsz)
    built = open_model(model, nc=nc, ch=ch, trust=trust)
    height, width = (size, size) if isinstance(size, int) else size
    stride = [int(s) for s in getattr(built, "stride", torch.tensor([32.0])).tolist()]
    check_size((height, width), max(stride))
    layers, total = layers_of(built, (1, image_channels(built, ch), height, width))
    return Summary(
        model=str(model) if isinstance(model, (str, Path)) else type(built).__name__,
        imgsz=(height, width),
        params=sum(p.numel() for p in built.parameters()),
        gflops=total,
        gflops_thop=thop_gflops(built, height) if height == width else None,
        stride=strides_read(layers, (height, width)) or stride,
        layers=layers,
        notes=[*sentences(getattr(built, "yaml", None) or {}), *input_notes(built), *notes_on(built)],
    )
