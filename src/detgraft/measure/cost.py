"""Shows what a model costs, layer by layer: parameters, output shapes, and operations that were counted, not estimated.

Operations are counted by ``torch.utils.flop_counter.FlopCounterMode`` over one forward pass in evaluation mode at batch
1 (a multiplication and an addition are two operations), with gradients enabled, since without them fused attention is
not counted. thop's figure, which Ultralytics prints, is given beside it under its own name.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detgraft.measure.flops import flop_counter
from detgraft.upstream.model.models import open_model, thop_gflops
from detgraft.upstream.model.sizes import check_size

Shape = list[Any]
"""A tensor's shape as a list of integers, or a list of shapes for a layer with several outputs."""


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """One layer of a built model.

    Args:
        index: Layer index.
        from_: Index or indices of the layers that feed it, as stored in the model.
        module: The layer's type.
        params: Number of parameters.
        shape: Output shape(s) at the image size of the summary.
        gflops: Operations, in units of 1e9.
    """

    index: int
    from_: int | list[int]
    module: str
    params: int
    shape: Shape
    gflops: float


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
    """

    model: str
    imgsz: tuple[int, int]
    params: int
    gflops: float
    gflops_thop: float | None
    stride: list[int]
    layers: list[LayerCost]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; a layer's ``from_`` is called ``from`` there."""
        data = dataclasses.asdict(self)
        data["imgsz"] = list(self.imgsz)
        for layer in data["layers"]:
            layer["from"] = layer.pop("from_")
        return data


def show(
    model: str | Path | nn.Module | dict[str, Any],
    imgsz: int | tuple[int, int] = 640,
    nc: int | None = None,
    ch: int = 3,
) -> Summary:
    """Measure the cost of a model, layer by layer.

    Args:
        model: A model YAML (own, stock or of the zoo), a checkpoint, or a model object.
        imgsz: Image size in pixels: one number, or height and width.
        nc: Number of classes, where a description is given; its own number by default.
        ch: Number of image channels, where a description is given.

    Returns:
        The cost; the model itself is not changed.

    Raises:
        DetgraftError: The model cannot be built, or the size is not a multiple of its stride.
    """
    built = open_model(model, nc=nc, ch=ch)
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    stride = [int(s) for s in getattr(built, "stride", torch.tensor([32.0])).tolist()]
    check_size((height, width), max(stride))
    layers, total = _trace(built, (1, _image_channels(built, ch), height, width))
    return Summary(
        model=str(model) if isinstance(model, (str, Path)) else type(built).__name__,
        imgsz=(height, width),
        params=sum(p.numel() for p in built.parameters()),
        gflops=total,
        gflops_thop=thop_gflops(built, height) if height == width else None,
        stride=stride,
        layers=layers,
    )


def _image_channels(model: nn.Module, default: int) -> int:
    mapping = getattr(model, "yaml", None)
    channels = mapping.get("channels", mapping.get("ch", default)) if isinstance(mapping, dict) else default
    return int(channels or default)


def _trace(model: nn.Module, size: tuple[int, ...]) -> tuple[list[LayerCost], float]:
    """Run one counted forward pass on a copy, on the meta device where the head allows it."""
    try:
        return _counted_pass(copy.deepcopy(model).to("meta").eval(), torch.zeros(size, device="meta"))
    except (NotImplementedError, RuntimeError):  # some heads compute values that the meta device does not have
        return _counted_pass(copy.deepcopy(model).float().cpu().eval(), torch.zeros(size))


def _counted_pass(model: nn.Module, image: Tensor) -> tuple[list[LayerCost], float]:
    found: list[LayerCost] = []
    before: dict[int, int] = {}
    handles = []
    with flop_counter() as counter, torch.enable_grad():

        def enter(index: int) -> Callable[..., None]:
            return lambda *_: before.__setitem__(index, counter.get_total_flops())

        def leave(index: int, layer: Any) -> Callable[..., None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                flops = counter.get_total_flops() - before[index]
                found.append(
                    LayerCost(
                        index=index,
                        from_=layer.f if isinstance(layer.f, int) else list(layer.f),
                        module=str(layer.type),
                        params=sum(p.numel() for p in layer.parameters()),
                        shape=_shape(output),
                        gflops=flops / 1e9,
                    )
                )

            return hook

        stack: Any = model.model
        for index, layer in enumerate(stack):
            handles += [layer.register_forward_pre_hook(enter(index)), layer.register_forward_hook(leave(index, layer))]
        model(image)
        total = counter.get_total_flops() / 1e9
    for handle in handles:
        handle.remove()
    return found, total


def _shape(output: Any) -> Shape:
    if isinstance(output, Tensor):
        return list(output.shape)
    if isinstance(output, dict):
        return [_shape(value) for value in output.values()]
    if isinstance(output, (list, tuple)):
        return [_shape(value) for value in output]
    return []
