"""The model under check, and how its layers are called in messages."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detgraft.errors import DetgraftError
from detgraft.plan.rows import Plan
from detgraft.upstream.model.arguments import check_counts
from detgraft.upstream.model.models import open_model
from detgraft.upstream.service.descriptions import description_of, mapping_of, plan_for
from detgraft.upstream.service.models import class_count_of, is_rtdetr, is_topk
from detgraft.verify.parity import Form

SMALL = 160
"""Size for checks that need no detail. RT-DETR ranks 300 of its features' pixels; 160 gives 525."""


@dataclasses.dataclass
class Subject:
    """A model under check.

    Args:
        name: The model as it was named.
        mapping: Its description.
        plan: Its plan, where the description has one.
        imgsz: Height and width in pixels that were asked for.
        channels: Image channels.
        model: The model as it was opened or built; None where building failed.
        failure: Why building failed.
        folder: A temporary folder for files.
        data: The ``data=`` that was given.
        say: Takes a sentence about what is being done now.
    """

    name: str
    mapping: dict[str, Any]
    plan: Plan | None
    imgsz: tuple[int, int]
    channels: int
    model: Any
    failure: str
    folder: Path
    data: Any = None
    say: Callable[[str], None] = lambda _text: None

    @property
    def small(self) -> int:
        """The size for checks that need no detail."""
        return min(SMALL, *self.imgsz)

    @property
    def stride(self) -> int:
        """The model's largest stride."""
        stride = getattr(self.model, "stride", None)
        found = int(stride.max()) if isinstance(stride, Tensor) and stride.numel() else 32
        return found if found > 1 else 32  # a classifier says 1 and means that nothing has to fit

    def copy(self) -> Any:
        """Return a copy of the model in float32 on the CPU."""
        return copy.deepcopy(self.model).float().cpu()

    def woken(self) -> Any:
        """Return a copy in evaluation mode in which a fresh model's constants (zeros, ones) are no longer constant.

        A batch norm that was never trained, a gain that starts at zero, or a class score that starts at minus ten would
        hide any error behind it.
        """
        return wake(self.copy(), self.pictures(8, SMALL, SMALL)).eval()

    def layer(self, index: int | None) -> str:
        """Return how a layer is called in messages: number, name, file and line where known."""
        if index is None:
            return "the model"
        name = ""
        if self.model is not None and index < len(self.model.model):
            name = str(getattr(self.model.model[index], "type", "")).rpartition(".")[2]
        where = ""
        if self.plan is not None and index < sum(row.span for row in self.plan.rows):
            row = self.plan.row_of_layer(index)
            name = row.module if row.span == 1 or row.index == index else f"{row.module}, {name}"
            line = f" line {row.location.line}" if row.location.line is not None else ""
            where = f", {row.location.source}{line}"
        return f"layer {index} ({name}{where})"

    def parameter(self, name: str) -> str:
        """Return how a parameter is called in messages: ``model.4.conv.weight`` is 'conv.weight of layer 4 (...)'."""
        words = name.split(".")
        if len(words) > 2 and words[0] == "model" and words[1].isdigit():
            return f"{self.layer(int(words[1]))}: '{'.'.join(words[2:])}'"
        return f"'{name}'"

    def pictures(self, count: int, height: int, width: int, seed: int = 1) -> Tensor:
        """Return random pictures, shape (count, channels, height, width), values 0 to 1."""
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(count, self.channels, height, width, generator=generator)


def form_of(model: Any) -> Form:
    """Return how a model lays out its predictions."""
    return Form(class_count_of(model), is_topk(model), is_rtdetr(model))


def wake(model: Any, pictures: Tensor) -> Any:
    """Give a fresh model what training gives it: batch norms that fit its activations, and no constant parameters.

    With untrained batch norms a signal dies on its way through the layers, and no comparison of answers would notice
    an error in the first ones. A trained model keeps its own statistics.

    Args:
        model: Changed and returned.
        pictures: Pictures for the batch norms' statistics; too few values per channel in the last stage, and the layers
            amplify rounding errors a thousandfold (two pictures of 64 pixels do).
    """
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".dfl" in name or parameter.numel() == 0 or not parameter.dtype.is_floating_point:
                continue
            value = parameter.flatten()[0]
            if bool((parameter == value).all()):
                start = value if abs(float(value)) <= 1 else torch.zeros(())
                parameter.copy_(start + 0.1 * torch.randn(parameter.shape, generator=generator))
    fresh = [m for m in model.modules() if isinstance(m, _BatchNorm) and _is_fresh(m)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in fresh]
    for norm in fresh:
        norm.momentum = 1.0
    # A model that does not run in training mode keeps what it has; the check of gradients says so.
    with torch.no_grad(), preserved_random(), contextlib.suppress(Exception):
        model.train()
        model(pictures)
    for norm, (momentum, tracked) in zip(fresh, before, strict=True):
        norm.momentum, norm.num_batches_tracked = momentum, tracked
        if norm.running_mean is not None and norm.running_var is not None:
            # Two pictures of noise hardly differ once they are averaged; a variance far below the mean's square would
            # turn rounding errors into differences, as no trained model does.
            norm.running_var.copy_(torch.maximum(norm.running_var, norm.running_mean.square()))
    return model


def _is_fresh(norm: _BatchNorm) -> bool:
    variance = norm.running_var
    return norm.track_running_stats and variance is not None and bool((variance == variance.flatten()[0]).all())


def open_subject(
    model: str | Path | nn.Module | dict[str, Any],
    imgsz: int | tuple[int, int],
    nc: int | None,
    folder: Path,
    data: Any = None,
    *,
    trust: bool = False,
) -> Subject:
    """Open or build the model under check.

    Raises:
        DetgraftError: There is no such model, or its description is malformed. A description that is well formed and
            still cannot be built is a subject without a model, whose failure the check of shapes explains.
    """
    check_counts(nc=nc)
    size = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    name = str(model) if isinstance(model, (str, Path)) else type(model).__name__
    described = isinstance(model, dict) or (
        isinstance(model, (str, Path)) and not str(model).lower().endswith((".pt", ".safetensors"))
    )
    mapping: dict[str, Any] = {}
    if described:
        mapping = copy.deepcopy(model) if isinstance(model, dict) else description_of(model)  # type: ignore[arg-type]
        mapping["nc"] = nc or mapping.get("nc")
    channels = int(mapping.get("channels") or mapping.get("ch") or 3)
    opened: Any = None
    failure = ""
    try:
        with preserved_random():
            torch.manual_seed(0)
            opened = open_model(copy.deepcopy(mapping) if described else model, ch=channels, trust=trust)
            opened = copy.deepcopy(opened).float().cpu()
    except DetgraftError as error:
        if not described or plan_for(mapping) is None:
            raise
        failure = str(error)
    if opened is not None:
        mapping = mapping_of(opened)
        channels = int(mapping.get("channels") or mapping.get("ch") or 3)
    return Subject(name, mapping, plan_for(mapping), size, channels, opened, failure, folder, data)


@contextlib.contextmanager
def preserved_random() -> Iterator[None]:
    """Put the global random generators of torch, numpy and Python back afterwards."""
    state = numpy.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            numpy.random.set_state(state[0])
            random.setstate(state[1])
