"""What happens to a grafted model and its input before Ultralytics' own forward pass sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detgraft.kernels.layout import in_fast_layout
from detgraft.kernels.recording import is_graph
from detgraft.upstream.model.sizes import check_size, largest_stride


def ready_input(model: nn.Module, x: Any) -> Any:
    """Return a grafted model's input, pictures or a training batch, with the pictures in the fast layout.

    Args:
        model: The grafted model.
        x: Pictures of shape (B, C, H, W), or a training batch that holds them under ``img``.

    Raises:
        SizeError: The pictures' size is not a multiple of the model's stride.
    """
    if is_graph():  # a graph would keep what is done here, or break at it
        return x
    if isinstance(x, dict) and isinstance(x.get("img"), torch.Tensor):
        return {**x, "img": in_fast_layout(x["img"])}
    if isinstance(x, torch.Tensor) and x.ndim == 4:
        check_size(tuple(x.shape[-2:]), largest_stride(model))
        return in_fast_layout(x)
    return x


@contextlib.contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Keep the statistics of batch norms while a model that is being made runs once to find its strides.

    Older releases (8.3.0) do that in training mode, on an empty picture: the statistics of pretrained weights that a
    row has loaded would be mixed with those of nothing.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def exports_static_onnx(model: nn.Module) -> bool:
    """Whether Ultralytics' exporter is recording an ONNX graph for one batch size; it says so on the head."""
    layers = getattr(model, "model", None)
    head = layers[-1] if isinstance(layers, nn.Sequential) else None
    exporting = bool(getattr(head, "export", False)) and getattr(head, "format", None) == "onnx"
    return exporting and not getattr(head, "dynamic", True)
