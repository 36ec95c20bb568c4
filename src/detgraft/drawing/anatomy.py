"""What a drawing shows, as plain values: the layers of a model, and which layer of another model each one continues."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from detgraft.errors import DetgraftError
from detgraft.measure.cost import Summary, show
from detgraft.measure.layers import short_name, stride_of
from detgraft.plan.rows import Plan
from detgraft.upstream.model.models import open_model
from detgraft.upstream.model.transfer import layer_map, open_checkpoint, report_of, report_on
from detgraft.upstream.release.quiet import quiet
from detgraft.upstream.service.descriptions import base_of, mapping_of, plan_for
from detgraft.upstream.service.models import class_count_of
from detgraft.weights.transfer import TransferReport, renumber

Status = Literal["kept", "changed", "new", "plain"]
"""Of a layer: as in the other model, in its place with other arguments or channels, without counterpart, or alone."""


@dataclass(frozen=True)
class Layer:
    """One layer of a model.

    Args:
        index: Layer index.
        sources: Indices of the layers that feed it; -1 is the image.
        name: Module name as a YAML has it.
        kind: Full path of the layer's class.
        shape: Output shape without the batch, or a list of them.
        strides: Strides of its outputs in ascending order; empty where it returns no feature maps.
        params: Number of parameters.
        gflops: Operations in units of 1e9.
        row: The YAML row that it comes from, as text.
        where: File and line of that row.
        graft: Whether it comes from a graft.
        origin: Index of the layer of the other model that it continues, or None.
        status: How it stands to that layer.
        carried: Number of its tensors whose weights a transfer brings, and of all its tensors.
    """

    index: int
    sources: tuple[int, ...]
    name: str
    kind: str
    shape: list[Any]
    strides: tuple[int, ...]
    params: int
    gflops: float
    row: str
    where: str
    graft: bool
    origin: int | None = None
    status: Status = "plain"
    carried: tuple[int, int] | None = None


@dataclass(frozen=True)
class Transfer:
    """What a transfer of weights carries over.

    Args:
        source: Where the weights come from.
        tensors: Number of tensors that arrive, and of all tensors.
        params: Number of parameters that arrive, and of all parameters.
    """

    source: str
    tensors: tuple[int, int]
    params: tuple[int, int]


@dataclass(frozen=True)
class Anatomy:
    """A model, and the one beside it.

    Args:
        name: Name of the model.
        summary: Its cost.
        layers: Its layers.
        other: The model beside it, usually the stock base; None where there is none.
        transfer: What a transfer from the other model, or from a checkpoint, carries over.
    """

    name: str
    summary: Summary
    layers: tuple[Layer, ...]
    other: Anatomy | None = None
    transfer: Transfer | None = None

    @property
    def removed(self) -> list[Layer]:
        """The layers of the other model that no layer continues."""
        continued = {layer.origin for layer in self.layers}
        return [layer for layer in self.other.layers if layer.index not in continued] if self.other else []


def dissect(
    model: str | Path | nn.Module | dict[str, Any],
    beside: str | Path | nn.Module | dict[str, Any] | None = None,
    imgsz: int | tuple[int, int] = 640,
    nc: int | None = None,
    ch: int = 3,
    transfer: str | Path | None = None,
    trust: bool = False,
) -> Anatomy:
    """Take a model apart, and the stock base that it stands on, or any other model beside it.

    Args:
        model: A graft expression, a model YAML, a checkpoint, or a model object.
        beside: What stands beside it; the stock base of a grafted model by default.
        imgsz: Image size in pixels: one number, or height and width.
        nc: Number of classes, where a description is given.
        ch: Number of image channels, where a description is given.
        transfer: A checkpoint whose weights are followed; otherwise those of the model beside.
        trust: Let a checkpoint run the code that it holds.

    Raises:
        DetgraftError: A model cannot be built, or the size does not fit.
    """
    with quiet():
        built: Any = open_model(model, nc=nc, ch=ch, trust=trust)
        stock = beside if beside is not None else base_of(mapping_of(built))
        other: Any = None
        if stock is not None:
            with contextlib.suppress(*(() if beside is not None else (DetgraftError, OSError))):
                classes = nc if nc is not None else class_count_of(built) if beside is None else None
                other = open_model(stock, nc=classes, ch=ch, trust=trust)
        single = _single(built, _name(model, built), imgsz, ch)
        if other is None:
            if transfer is None:
                return single
            source = open_checkpoint(transfer)
            report, share = _follow(source, built, str(transfer))
            return Anatomy(single.name, single.summary, _carried(single.layers, report), None, share)
        companion = _single(other, _name(stock, other), imgsz, ch)
        origins = layer_map(other, built)
        source = other if transfer is None else open_checkpoint(transfer)
        report, share = _follow(source, built, companion.name if transfer is None else str(transfer))
    layers = tuple(_placed(layer, origins, companion.layers) for layer in single.layers)
    return Anatomy(single.name, single.summary, _carried(layers, report), companion, share)


def _name(model: Any, built: Any) -> str:
    if isinstance(model, (str, Path)):
        return str(model).strip().removesuffix(".yaml")
    return str(mapping_of(built).get("yaml_file") or type(built).__name__).removesuffix(".yaml")


def _single(built: Any, name: str, imgsz: int | tuple[int, int], ch: int) -> Anatomy:
    summary = show(built, imgsz=imgsz, ch=ch)
    plan = plan_for(mapping_of(built))
    modules = list(built.model)
    layers = tuple(
        _layer(index, modules[cost.index], cost.params, cost.gflops, cost.shape, summary, plan)
        for index, cost in enumerate(summary.layers)
    )
    return Anatomy(name, summary, layers)


def _layer(
    index: int, module: Any, params: int, gflops: float, shape: list[Any], summary: Summary, plan: Plan | None
) -> Layer:
    written = module.f if isinstance(module.f, list) else [module.f]
    sources = tuple(index - 1 if source == -1 else int(source) for source in written)
    name, row, where, graft = short_name(str(module.type)), "", "", False
    if plan is not None and index < sum(entry.span for entry in plan.rows):
        found = plan.row_of_layer(index)
        values = ", ".join("None" if value is None else str(value) for value in found.args)
        source = list(found.written_from) if isinstance(found.written_from, tuple) else found.written_from
        row = f"[{source}, {found.repeats}, {found.module}, [{values}]]"
        where, graft = str(found.location), found.graft is not None
        name = found.module if found.span == 1 or found.index == index else name
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    bare = _without_batch(shape)
    strides = tuple(sorted({stride for size in _flat(shape) if (stride := stride_of(size, summary.imgsz)) is not None}))
    return Layer(index, sources, name, kind, bare, strides, params, gflops, row, where, graft)


def _flat(shape: list[Any]) -> list[list[int]]:
    if all(isinstance(size, int) for size in shape):
        return [shape] if shape else []
    return [flat for entry in shape for flat in _flat(entry)]


def _without_batch(shape: list[Any]) -> list[Any]:
    if all(isinstance(size, int) for size in shape):
        return shape[1:]
    return [_without_batch(entry) for entry in shape]


def _placed(layer: Layer, origins: Mapping[int, int], others: tuple[Layer, ...]) -> Layer:
    origin = origins.get(layer.index)
    if origin is None or origin >= len(others):
        return _with(layer, origin=None, status="new")
    other = others[origin]
    same = (layer.kind, layer.params, layer.shape) == (other.kind, other.params, other.shape)
    return _with(layer, origin=origin, status="kept" if same else "changed")


def _with(layer: Layer, **changes: Any) -> Layer:
    return replace(layer, **changes)


def _carried(layers: tuple[Layer, ...], report: TransferReport) -> tuple[Layer, ...]:
    by_index = {entry.index: (entry.transferred, entry.total) for entry in report.layers}
    return tuple(_with(layer, carried=by_index.get(layer.index)) for layer in layers)


def _follow(source: Any, target: Any, name: str) -> tuple[TransferReport, Transfer]:
    """Load one model's weights into a copy of the other, as a training does, and count what arrives."""
    trial = copy.deepcopy(target).float()
    with torch.no_grad():  # equal constants of two fresh models must not look like weights that were carried
        for tensor in trial.state_dict().values():
            tensor.fill_(-123) if tensor.dtype.is_floating_point else tensor.fill_(101)
    trial.load(source, verbose=False)
    report = report_of(trial) or report_on(source, trial)
    stock = report_of(trial) is None
    layers = {index: index for index in range(len(trial.model))} if stock else layer_map(source, trial)
    given = renumber(source.float().state_dict(), layers)
    own = dict(trial.named_parameters())
    arrived = sum(p.numel() for key, p in own.items() if key in given and given[key].shape == p.shape)
    return report, Transfer(name, (report.transferred, report.total), (arrived, sum(p.numel() for p in own.values())))
