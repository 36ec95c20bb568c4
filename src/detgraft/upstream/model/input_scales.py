"""Which pixels a built model's backbones expect: kept in its description, carried along with weights, and told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from torch import Tensor, nn

from detgraft.plan.meanings import rows_of
from detgraft.plan.rows import layers_of
from detgraft.plan.weights_files import INPUT, is_input
from detgraft.upstream.parser.names import grafts_of

if TYPE_CHECKING:  # timm is imported where there is a backbone of it, and then it is there already
    from detgraft.blocks.backbones.timm_backbone import TimmBackbone


def record_inputs(model: Any) -> None:
    """Write into a grafted model's description what its backbones expect; a copy built from it expects the same.

    Args:
        model: An Ultralytics model whose description names no weights files any more.
    """
    for row, _, backbone in _backbones(model):
        from detgraft.blocks.backbones.input_scale import UNIT, as_text

        said = [INPUT + UNIT] if any(map(is_input, row[3])) else []
        if backbone.input_scale is not None:
            said = [INPUT + as_text(backbone.input_scale)]
        row[3] = [*(value for value in row[3] if not is_input(value)), *said]


def carry_inputs(source: Any, target: Any, layers: Mapping[int, int], given: Mapping[str, Tensor]) -> None:
    """After a transfer, let each backbone of the target expect what the weights that it was given expect.

    Args:
        source: The model that the weights come from.
        target: The model that they went to.
        layers: Target layer index to source layer index.
        given: The source's tensors under the target's names.
    """
    for _, index, backbone in _backbones(target):
        origin = layers.get(index)
        giver = source.model[origin] if origin is not None else None
        key, first = next(iter(backbone.net.state_dict().items()))  # what meets the pixels
        arrived = given.get(f"model.{index}.net.{key}")
        if _is_backbone(giver) and arrived is not None and arrived.shape == first.shape:
            backbone.set_input_scale(giver.input_scale)
    record_inputs(target)


def input_notes(model: nn.Module) -> list[str]:
    """Return a sentence for each backbone of a model that may have pretrained weights: which pixels it expects."""
    layers = getattr(model, "model", None)
    found = list(layers) if isinstance(layers, nn.Sequential) else []
    backbones = [layer for layer in found if _is_backbone(layer)]
    if not backbones:
        return []
    from detgraft.weights.input_scale import describe

    return [describe(backbone) for backbone in backbones]


def _is_backbone(layer: object) -> TypeGuard[TimmBackbone]:
    return hasattr(type(layer), "set_input_scale")


def _backbones(model: Any) -> Iterator[tuple[list[Any], int, TimmBackbone]]:
    """Yield the row, the layer index and the module of each backbone."""
    index = 0
    for row, entry in zip(rows_of(model.yaml), grafts_of(model.yaml), strict=True):
        if entry is not None and entry.takes_weights and _is_backbone(model.model[index]):
            yield row, index, model.model[index]
        index += layers_of(entry, row[0])
