"""Carries weights across the surgery: which layer of the source continues as which layer of the target.

Pure bookkeeping over state dicts and rows; the loading itself is Ultralytics' own.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from detgraft.errors import WeightsError

Status = Literal["transferred", "partly", "shape differs", "new", "no weights"]

_LAYER_KEY = re.compile(r"^model\.(\d+)\.(.+)$")


@dataclass(frozen=True)
class LayerTransfer:
    """What one layer of the target received.

    Args:
        index: Layer index in the target.
        module: The layer's type.
        origin: Layer index in the source, or None for a new layer.
        transferred: Number of tensors that now equal the source's.
        total: Number of tensors of the layer.
        status: ``transferred`` (all), ``partly``, ``shape differs`` (none, though the source has them), ``new``, or
            ``no weights``.
    """

    index: int
    module: str
    origin: int | None
    transferred: int
    total: int
    status: Status


@dataclass(frozen=True)
class TransferReport:
    """What a whole model received.

    Args:
        source: Where the weights come from.
        layers: One entry per layer.
    """

    source: str
    layers: tuple[LayerTransfer, ...]

    @property
    def transferred(self) -> int:
        """Number of tensors that arrived."""
        return sum(layer.transferred for layer in self.layers)

    @property
    def total(self) -> int:
        """Number of tensors of the target."""
        return sum(layer.total for layer in self.layers)

    @property
    def share(self) -> float:
        """Share of the target's tensors that arrived, 0 to 1."""
        return self.transferred / self.total if self.total else 0.0

    def require(self, minimum: float) -> None:
        """Raise when too little arrived.

        Args:
            minimum: Smallest acceptable share, 0 to 1.

        Raises:
            WeightsError: Names the shares and the layers that stayed empty.
        """
        if self.share < minimum:
            empty = ", ".join(f"{x.index} ({x.module})" for x in self.layers if x.status in ("new", "shape differs"))
            raise WeightsError(
                f"only {self.transferred} of {self.total} tensors ({self.share:.0%}) came from {self.source}, and "
                f"transfer_min asks for {minimum:.0%}; layers without weights from it: {empty}"
            )

    def lines(self) -> list[str]:
        """Return the report as text: the total, then the layers by status."""
        found = [f"Weights from {self.source}: {self.transferred}/{self.total} tensors ({self.share:.0%})"]
        for status in ("transferred", "partly", "shape differs", "new"):
            names = [
                f"{x.index} {x.module.rpartition('.')[2]}"
                + (f" ({x.transferred}/{x.total})" if status == "partly" else "")
                for x in self.layers
                if x.status == status
            ]
            if names:
                found.append(f"  {status}: {', '.join(names)}")
        return found


def align_rows(
    source: Sequence[tuple[str, Sequence[Any], int]], target: Sequence[tuple[str, Sequence[Any], int]]
) -> dict[int, int]:
    """Find which layers of the target continue which layers of the source.

    Args:
        source: Module name, arguments and number of layers of each row of the source.
        target: The same for the target.

    Returns:
        Target layer index to source layer index. Rows that differ but stand in the same place are mapped too: whether
        their tensors fit is decided by name and shape.
    """
    starts = [_starts(source), _starts(target)]
    keys = [[(module, repr(list(args))) for module, args, _ in rows] for rows in (source, target)]
    found: dict[int, int] = {}
    for kind, a1, a2, b1, b2 in difflib.SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_opcodes():
        if kind == "equal" or (kind == "replace" and a2 - a1 == b2 - b1):
            for a, b in zip(range(a1, a2), range(b1, b2), strict=True):
                if source[a][2] == target[b][2]:
                    found |= {starts[1][b] + k: starts[0][a] + k for k in range(target[b][2])}
    return found


def _starts(rows: Sequence[tuple[str, Sequence[Any], int]]) -> list[int]:
    starts, index = [], 0
    for _, _, span in rows:
        starts.append(index)
        index += span
    return starts


def renumber(
    state: Mapping[str, Tensor], layers: Mapping[int, int], branches: Mapping[str, Mapping[int, int]] | None = None
) -> dict[str, Tensor]:
    """Rename a source's tensors to the target's layer numbers; layers that go nowhere are left out.

    Args:
        state: State dict of the source, keys ``model.INDEX.name``.
        layers: Target layer index to source layer index.
        branches: For a list of modules in the target (``model.28.cv2``) which of its entries continues which of the
            source's; entries that are not named are left out.
    """
    targets: dict[int, list[int]] = {}
    for target, origin in layers.items():
        targets.setdefault(origin, []).append(target)
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        found = _LAYER_KEY.match(key)
        if found is None:
            renamed[key] = value
            continue
        for target in targets.get(int(found.group(1)), ()):
            for name in _moved(f"model.{target}.{found.group(2)}", branches or {}):
                renamed[name] = value
    return renamed


def _moved(name: str, branches: Mapping[str, Mapping[int, int]]) -> list[str]:
    for prefix, kept in branches.items():
        number, _, rest = name.removeprefix(f"{prefix}.").partition(".")
        if name.startswith(f"{prefix}.") and number.isdigit():
            return [f"{prefix}.{new}.{rest}" for new, old in kept.items() if old == int(number)]
    return [name]


def make_report(
    source: str,
    given: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    layers: Mapping[int, int],
    module_of: Callable[[int], str],
    count: int,
) -> TransferReport:
    """Compare what was given with what the target holds now.

    Args:
        source: Where the weights come from.
        given: The source's tensors under the target's names.
        state: The target's state dict after loading.
        layers: Target layer index to source layer index.
        module_of: Names a layer of the target.
        count: Number of layers of the target.
    """
    arrived = dict.fromkeys(range(count), 0)
    totals = dict.fromkeys(range(count), 0)
    offered = dict.fromkeys(range(count), 0)
    for key, value in state.items():
        found = _LAYER_KEY.match(key)
        if found is None:
            continue
        index = int(found.group(1))
        totals[index] += 1
        if key in given:
            offered[index] += 1
            same = given[key].shape == value.shape and torch.equal(given[key].to(value), value)
            arrived[index] += int(same)
    return TransferReport(
        source,
        tuple(
            LayerTransfer(
                i, module_of(i), layers.get(i), arrived[i], totals[i], _status(arrived[i], totals[i], offered[i])
            )
            for i in range(count)
        ),
    )


def _status(arrived: int, total: int, offered: int) -> Status:
    if total == 0:
        return "no weights"
    if arrived == total:
        return "transferred"
    if arrived:
        return "partly"
    return "shape differs" if offered else "new"
