"""Follows a model layer by layer, to name the layer where something happens."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class LayerError(RuntimeError):
    """A forward pass failed inside a layer.

    Args:
        index: Layer index, None where it failed outside of all layers.
        error: What was raised.
    """

    def __init__(self, index: int | None, error: BaseException) -> None:
        self.index = index
        lines = str(error).strip().splitlines()
        self.text = f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
        super().__init__(self.text)


Visit = Callable[[int, Any], None]
"""Called with a layer's index and its output (or None before it runs)."""


@contextlib.contextmanager
def watching(model: Any, leave: Visit | None = None, enter: Visit | None = None) -> Iterator[None]:
    """Visit every top-level layer of a model while it runs; a failure becomes a :class:`LayerError`.

    Args:
        model: An Ultralytics model.
        leave: Called after a layer with its output.
        enter: Called before a layer.

    Raises:
        LayerError: The body failed; it knows in which layer.
    """
    current: list[int] = []
    handles = []
    for index, layer in enumerate(model.model):

        def before(_module: Any, _inputs: Any, index: int = index) -> None:
            current.append(index)
            if enter is not None:
                enter(index, None)

        def after(_module: Any, _inputs: Any, output: Any, index: int = index) -> None:
            if leave is not None:
                leave(index, output)
            current.pop()

        handles += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]
    try:
        yield
    except LayerError:
        raise
    except Exception as error:
        raise LayerError(current[-1] if current else None, error) from error
    finally:
        for handle in handles:
            handle.remove()


See = Callable[[int, str, Any], None]
"""Called with a layer's index, an operation's name and its result."""


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, current: list[int], see: See) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._current = current
        self._see = see

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._current:
            self._see(self._current[-1], str(func.overloadpacket).rpartition(".")[2], result)
        return result


@contextlib.contextmanager
def watching_operations(model: Any, see: See) -> Iterator[None]:
    """Visit every operation that a model's layers run.

    Args:
        model: An Ultralytics model.
        see: Called after each operation.

    Raises:
        LayerError: The body failed; it knows in which layer.
    """
    current: list[int] = []

    def leave(_index: int, _output: Any) -> None:
        current.pop()

    def enter(index: int, _output: Any) -> None:
        current.append(index)

    with watching(model, leave, enter), _Operations(current, see):
        yield


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Go through all tensors of a nested output."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from tensors_in(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from tensors_in(entry)


def main_output(model: Any, pictures: Tensor) -> Tensor:
    """Return the predictions of a model in evaluation mode: the first tensor of its answer."""
    with torch.no_grad():
        return next(tensors_in(model(pictures)))


def outputs_by_layer(model: Any, pictures: Tensor) -> dict[int, list[Tensor]]:
    """Run a model without gradients and keep every layer's output tensors, copied."""
    kept: dict[int, list[Tensor]] = {}

    def keep(index: int, output: Any) -> None:
        kept[index] = [tensor.detach().clone() for tensor in tensors_in(output)]

    with torch.no_grad(), watching(model, leave=keep):
        model(pictures)
    return kept


def relative_drift(reference: Tensor, found: Tensor) -> float:
    """Return the largest difference relative to the reference's largest magnitude; infinite for other shapes or NaN."""
    if reference.shape != found.shape:
        return float("inf")
    if reference.numel() == 0:
        return 0.0
    reference, found = reference.double(), found.double()
    magnitude = float(reference.abs().max())
    difference = float((reference - found).abs().max())
    if difference != difference:
        return float("inf")
    return difference / magnitude if magnitude > 0 else (0.0 if difference == 0 else float("inf"))


def copied(value: Any, change: Callable[[Tensor], Tensor] = torch.clone) -> Any:
    """Return a nested value with every tensor copied (or changed in another way)."""
    if isinstance(value, Tensor):
        return change(value.detach())
    if isinstance(value, dict):
        return {key: copied(entry, change) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copied(entry, change) for entry in value)
    return value


@dataclasses.dataclass(frozen=True)
class Pass:
    """What one layer was given and what it returned in one forward pass."""

    given: Any
    returned: Any


def passes_by_layer(model: Any, pictures: Tensor) -> dict[int, Pass]:
    """Run a model without gradients and keep every layer's input and output, copied."""
    given: dict[int, Any] = {}
    found: dict[int, Pass] = {}
    handles = []
    for index, layer in enumerate(model.model):

        def before(_module: Any, inputs: Any, index: int = index) -> None:
            given[index] = copied(inputs[0])

        def after(_module: Any, _inputs: Any, output: Any, index: int = index) -> None:
            found[index] = Pass(given[index], copied(output))

        handles += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]
    try:
        with torch.no_grad(), watching(model):
            model(pictures)
    finally:
        for handle in handles:
            handle.remove()
    return found


def first_drift(
    reference: dict[int, list[Tensor]], found: dict[int, list[Tensor]], tolerance: float
) -> tuple[int, float] | None:
    """Return the first layer whose output drifts by more than a tolerance, and by how much; None where none does."""
    for index, tensors in reference.items():
        others = found.get(index, [])
        if len(others) != len(tensors):
            return index, float("inf")
        worst = max((relative_drift(a, b) for a, b in zip(tensors, others, strict=True)), default=0.0)
        if worst > tolerance:
            return index, worst
    return None
