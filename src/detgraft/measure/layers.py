"""Counts what the layers of a built model cost in one forward pass.

Operations are counted by ``torch.utils.flop_counter.FlopCounterMode`` over one forward pass in evaluation mode at batch
1 (a multiplication and an addition are two operations), with gradients enabled, since without them fused attention is
not counted.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from detgraft.measure.flops import flop_counter

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


def short_name(module: str) -> str:
    """Return a class without its package: Conv for ultralytics.nn.modules.conv.Conv; other names as they are.

    Names with options (``C3k2(SE(p=0.5))``) and of timm (``timm/resnet18.a1_in1k``) have dots of their own.
    """
    return module if "(" in module or "/" in module else module.rpartition(".")[2]


def stride_of(shape: Shape, imgsz: tuple[int, int]) -> int | None:
    """Return the stride of a feature map, None for anything else.

    Args:
        shape: An output's shape: batch, channels, height, width.
        imgsz: Height and width of the picture in pixels.
    """
    if len(shape) != 4 or not all(isinstance(size, int) for size in shape):
        return None
    if not 0 < shape[2] <= imgsz[0] or not 0 < shape[3] <= imgsz[1]:
        return None
    stride = round(imgsz[0] / shape[2])
    return stride if stride == round(imgsz[1] / shape[3]) else None


def strides_read(layers: list[LayerCost], imgsz: tuple[int, int]) -> list[int]:
    """Return the strides of the feature maps that the last layer reads; empty where it reads something else.

    A model's own ``stride`` is that of its largest feature only where Ultralytics does not ask for more (RT-DETR).
    """
    sources = layers[-1].from_ if isinstance(layers[-1].from_, list) else [layers[-1].from_]
    shapes = [layers[source if source >= 0 else len(layers) - 1 + source].shape for source in sources]
    found = [stride_of(shape, imgsz) for shape in shapes]
    return [] if None in found else [stride for stride in found if stride is not None]


def image_channels(model: nn.Module, default: int = 3) -> int:
    """Return the number of image channels that a built model's description states, or the default."""
    mapping = getattr(model, "yaml", None)
    channels = mapping.get("channels", mapping.get("ch", default)) if isinstance(mapping, dict) else default
    return int(channels or default)


def layers_of(model: nn.Module, size: tuple[int, ...]) -> tuple[list[LayerCost], float]:
    """Count one forward pass of a copy, on the meta device where the head allows it.

    Args:
        model: A built model; not changed.
        size: Shape of the input: batch, channels, height, width.

    Returns:
        The layers, and the operations of the whole model in units of 1e9.
    """
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
