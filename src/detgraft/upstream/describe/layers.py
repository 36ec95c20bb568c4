"""Looks at the layers of a description before they are a model: declared channels, and a run on the meta device.

Says which row is at fault when a model cannot be built, and is what the check of shapes compares.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from ultralytics.nn import tasks

from detgraft.errors import DetgraftError, Location, PlanError
from detgraft.plan.rows import Plan
from detgraft.plan.weights_files import without_files
from detgraft.upstream.describe.plans import plan_of
from detgraft.upstream.describe.text import CHANGES_TEXT, empty_text, is_kind, run_layer
from detgraft.upstream.parser.names import names_grafts
from detgraft.upstream.parser.parse import Call, declared_channels, parse_grafted, parse_stock
from detgraft.upstream.release.quiet import quiet

Sizes = list[tuple[int, ...]]


@dataclasses.dataclass
class LayerRun:
    """One layer of a description, run on the meta device.

    Args:
        index: Layer index.
        module: The layer's type.
        inputs: Shapes that it was given.
        outputs: Shapes that it returned; empty when it failed.
        declared: Output channels that the parser counts with: a number, or a list for several outputs.
        layer: The layer itself, on the meta device.
        error: Why it failed, else an empty text.
    """

    index: int
    module: str
    inputs: Sizes
    outputs: Sizes
    declared: Any
    layer: Any
    error: str = ""

    def problem(self) -> str:
        """Say in a sentence what is wrong with this layer, or return an empty text."""
        if self.error:
            return f"fails on its input {_listed(self.inputs)}: {self.error}"
        declared = self.declared if isinstance(self.declared, list) else [self.declared]
        found = [shape[1] if len(shape) > 1 else None for shape in self.outputs]
        if len(self.outputs) == 1 and isinstance(self.declared, int) and found != declared:
            return f"declares {self.declared} output channels and returns {found[0]} (shape {_listed(self.outputs)})"
        if isinstance(self.declared, list) and found != declared:
            return f"declares outputs with {declared} channels and returns {_listed(self.outputs)}"
        return ""


def _listed(shapes: Sizes) -> str:
    return ", ".join(str(list(shape)) for shape in shapes) or "nothing"


def original_parser() -> Any:
    """Return the real ``parse_model`` behind the hook."""
    return getattr(tasks.parse_model, "__detgraft_original__", tasks.parse_model)


def layers_on_meta(mapping: dict[str, Any], ch: int) -> Any:
    """Build the layers of a description on the meta device, where they cost no memory.

    Raises:
        DetgraftError: The description cannot be built.
    """
    mapping = without_files(copy.deepcopy(mapping))
    call = Call.of(original_parser(), mapping, ch, False)
    with torch.device("meta"), quiet():
        if names_grafts(mapping):
            return parse_grafted(call, plan_of(mapping))[0]
        return parse_stock(call, lambda: plan_of(mapping))[0]


def _declared(mapping: dict[str, Any], ch: int) -> list[Any]:
    mapping = without_files(copy.deepcopy(mapping))
    return declared_channels(Call.of(original_parser(), mapping, ch, False), plan_of(mapping))


def run_on_meta(mapping: dict[str, Any], ch: int, height: int, width: int) -> Iterator[LayerRun]:
    """Run every layer but the head on the meta device, one after the other, until one fails.

    Args:
        mapping: A model description.
        ch: Image channels.
        height: Image height in pixels.
        width: Image width in pixels.

    Raises:
        DetgraftError: The layers cannot be built.
    """
    layers = layers_on_meta(mapping, ch)
    declared = _declared(mapping, ch)
    outputs: list[Any] = []
    x: Any = torch.zeros(2, ch, height, width, device="meta")
    text = empty_text(x)
    for index, layer in enumerate(list(layers)[:-1]):
        source: Any = layer.f
        if source != -1:
            x = outputs[source] if isinstance(source, int) else [x if j == -1 else outputs[j] for j in source]
        run = LayerRun(index, str(layer.type), shapes_of(x), [], declared[index], layer)
        try:
            with torch.device("meta"):
                x, text = run_layer(layer, x, text)
        except Exception as error:
            run.error = _first_line(error)
        else:
            run.outputs = shapes_of(x)
            # A backbone's list is read through its selectors, so only those declare channels that count.
            if is_kind(layer, CHANGES_TEXT):
                run.outputs, run.declared = shapes_of(text), None
            if isinstance(x, (list, tuple)) and isinstance(run.declared, int):
                run.declared = None
        yield run
        if run.error:
            return
        outputs.append(x)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    if isinstance(error, DetgraftError) and lines:
        return lines[0][:300]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def shapes_of(value: Any) -> Sizes:
    """Return the shapes of all tensors in a layer's input or output."""
    if isinstance(value, Tensor):
        return [tuple(value.shape)]
    if isinstance(value, dict):
        value = list(value.values())
    return [shape for entry in value for shape in shapes_of(entry)] if isinstance(value, (list, tuple)) else []


def explain_failed_build(mapping: Any, ch: int, error: Exception) -> DetgraftError:
    """Say why a model could not be built although its layers could: the row whose first forward pass fails.

    Args:
        mapping: What the model was to be built from.
        ch: Image channels.
        error: What was raised.
    """
    text = _first_line(error)
    if not isinstance(mapping, dict):
        return PlanError(f"the model cannot be built: {text}")
    try:
        plan = plan_of(mapping)
        for run in run_on_meta(mapping, ch, 256, 256):
            problem = run.problem()
            if problem:
                return PlanError(f"layer {run.index} ({run.module}) {problem}", plan.row_of_layer(run.index).location)
    except DetgraftError as known:
        return known
    except Exception:
        return PlanError(f"the model cannot be built: {text}", Location(str(mapping.get("yaml_file") or "")))
    return PlanError(f"the first forward pass of the model fails: {text}", head_location(plan))


def head_location(plan: Plan) -> Location:
    """Return where the last row stands."""
    return plan.rows[-1].location
