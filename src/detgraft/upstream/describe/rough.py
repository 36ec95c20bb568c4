"""Upper bounds of what rows cost, from their numbers alone: nothing is built, so thousands of rows take milliseconds.

Most rows write their output channels first, and any other number may be a kernel. Some stock modules (ELAN's, RT-DETR's
and the heads) write widths of what they hold inside, too. Read as kernels these would look absurd in every ordinary
YOLOv9; the names in the module's own signature tell them apart.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from detgraft.plan.rows import LISTS, PYRAMID_STRIDES, Plan, Row
from detgraft.upstream.release.capabilities import stock_module

_OUTPUT = frozenset({"c2", "c2s"})
_INSIDE = frozenset({"c3", "c4", "cm", "c_mid", "ec", "embed", "nm", "npr"})
"""Parameters of stock modules that are widths, and no kernels."""

_HARMLESS = frozenset({"c1", "s", "nh", "num_heads"})
"""Parameters that enlarge nothing."""

_TAKES_INPUT = frozenset({"ResNetLayer"})
"""Modules whose rows name the input channels, too; for all others the parser puts them in front."""

_EXPANDS = {"ResNetLayer": 4}
"""Output channels relative to what is written."""

_REDUCES = {"ADown": 2, "AConv": 2, "Focus": 2, "HGStem": 4}
"""Modules whose stride is not written."""

_LAYERS_INSIDE = 6
"""More kernels of the inner width than any one stock module without repeats holds, in units of its square."""

_WIDEST_FEATURE = 4096
"""Beyond any feature of a backbone."""


def numbers(value: Any) -> Iterator[float]:
    """Go through all numbers in a nested value; truth values are none."""
    if isinstance(value, bool):
        return
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from numbers(entry)
    elif isinstance(value, dict):
        for entry in value.values():
            yield from numbers(entry)


@dataclass(frozen=True)
class RowSize:
    """A row's numbers, read.

    Args:
        row: The row.
        plain: It writes its output channels first and no width besides.
        parameters: More parameters than the row can have, roughly.
        operations: More operations than it needs for two pictures of 256x256; nothing is said (0) of plain rows and of
            the head.
    """

    row: Row
    plain: bool
    parameters: float
    operations: float = 0.0


def rough_sizes(plan: Plan, ch: int) -> list[RowSize]:
    """Bound the parameters of every row of a plan, and the operations of rows with inner widths but the head.

    Args:
        plan: The plan.
        ch: Image channels.
    """
    scaling = plan.scaling
    width = max(scaling.width, 1.0)
    first = [written_channels(row) for row in plan.rows]
    widest = max([64.0, *(width * min(out, scaling.max_channels) for out in first if out is not None)])
    channels: dict[int, float] = {-1: float(ch)}
    strides: dict[int, float] = {-1: 1.0}
    found = []
    for row, out in zip(plan.rows, first, strict=True):
        given = sum(channels[source] for source in row.sources)
        stride = min(strides[source] for source in row.sources) * _stride(row)
        read = _Reading.of(row)
        repeats = scaling.repeats(row.repeats) * read.repeats
        if read.is_plain:
            wide = widest if out is None else max(64.0, width * min(out, scaling.max_channels))
            others = [abs(n) for n in numbers([*(row.args if out is None else row.args[1:]), *row.inner_options])]
            parameters = scaling.repeats(row.repeats) * widest * wide * max([3.0, *others]) ** 2
            if row.span > 1:  # a list of features is combined in pairs, and a number may be the width of all of them
                parameters *= len(row.sources) ** 2 * max(1.0, *others, out or 0.0)
            returned = given if out is None else wide
            found.append(RowSize(row, True, parameters))
        else:
            returned = max(64.0, width * read.output) * _EXPANDS.get(row.module, 1) if read.output else given
            parameters = _parameters(read, repeats, given, returned)
            # Every parameter works at most once per place of the largest map, of two pictures, with two operations.
            entered = max(1.0, _stride(row)) ** 2  # the first of the repeats sees the larger map
            places = max(1.0, 256 / stride) ** 2 * (1 + (entered - 1) / repeats)
            found.append(RowSize(row, False, parameters, 0.0 if row is plan.rows[-1] else 4 * parameters * places))
        rule = row.graft.channels if row.graft is not None else ""
        for offset in range(row.span):
            strides[row.index + offset] = stride
            if offset and rule in LISTS:
                listed = rule == "pyramid"
                strides[row.index + offset] = (
                    PYRAMID_STRIDES[offset - 1] if listed else strides[row.sources[offset - 1]]
                )
            channels[row.index + offset] = _WIDEST_FEATURE if rule in LISTS else returned
    return found


def _parameters(read: _Reading, repeats: float, given: float, returned: float) -> float:
    inside, kernel = read.inside, max(3.0, read.kernel) ** 2
    layers = _LAYERS_INSIDE if repeats == 1 else 2
    hidden = read.output if read.expands else 0.0  # a width of its own, derived from what is written
    total = repeats * kernel * (inside * (given + layers * inside) + 2 * hidden**2)
    total += 0 if inside or hidden else kernel * returned * given
    return total + 3 * returned * (given + returned + (repeats + 1) * (inside + hidden))


@dataclass(frozen=True)
class _Reading:
    """What a row's numbers are: output channels, the sum of the inner widths, the largest other number, repeats."""

    output: float = 0.0
    inside: float = 0.0
    kernel: float = 0.0
    repeats: float = 1.0
    expands: bool = False
    is_plain: bool = True

    @classmethod
    def of(cls, row: Row) -> _Reading:
        names = row_parameters(row.written_like)
        sums = {name: _size(value) for name, value in zip(names, row.args, strict=False)}
        output = sum(size for name, size in sums.items() if name in _OUTPUT)
        inside = sum(size for name, size in sums.items() if name in _INSIDE)
        if not inside and not ("c2s" in sums and output) and row.module not in _TAKES_INPUT:
            return cls()
        known = {*_OUTPUT, *_INSIDE, *_HARMLESS, "n"}
        others = [value for name, value in zip(names, row.args, strict=False) if name not in known]
        kernel = max([0.0, *(abs(n) for n in numbers([*others, *row.args[len(names) :], *row.inner_options]))])
        return cls(output, inside, kernel, max(1.0, sums.get("n", 1.0)), "e" in names, False)


def _size(value: Any) -> float:
    return float(sum(abs(n) for n in numbers(value)))


@functools.lru_cache(maxsize=256)
def row_parameters(name: str) -> tuple[str, ...]:
    """Return the parameters that the arguments of a stock module's row stand for, in order; none where unknown.

    Args:
        name: A module name; of torch's own and of grafts nothing is said.
    """
    module = None if "." in name else stock_module(name)
    if module is None:
        return ()
    names = [parameter for parameter in inspect.signature(module.__init__).parameters if parameter != "self"]
    if name in _TAKES_INPUT or names[:1] != ["c1"]:
        return tuple(names)
    return tuple(parameter for parameter in names[1:] if parameter != "n")


def written_channels(row: Row) -> float | None:
    """Return the first argument, where it is a number: the output channels of most modules."""
    first = row.args[0] if row.args else None
    return abs(first) if isinstance(first, (int, float)) and not isinstance(first, bool) else None


def _stride(row: Row) -> float:
    """By how much a row makes its map smaller at least; below 1 where it may enlarge it."""
    if row.module in _REDUCES:
        return _REDUCES[row.module]
    if "." in row.module or "Transpose" in row.module:  # torch's own may enlarge by any of their numbers
        return 1 / max([1.0, *map(abs, numbers(row.args if "." in row.module else [2, *row.args[1:]]))])
    entry = row.graft
    if entry is not None:
        return 1 / max([2.0, *map(abs, numbers(row.args))]) if entry.site == "upsample" else 1.0
    names = row_parameters(row.module)
    at = names.index("s") if "s" in names else len(row.args)
    if at >= len(row.args):
        return 1.0
    if row.module in _TAKES_INPUT and row.args[3:4] == (True,):  # the stem of a ResNet
        return 4.0
    return max([1.0, *map(abs, numbers([row.args[at]]))])
