"""Makes stock shells with other blocks inside.

The shell is made by its own class, with the arguments that the stock parser passes. While it is made its units are
withheld (:mod:`detgraft.upstream.parser.carriers`), so none is made only to be thrown away; then each is made as it is
to be. How a release lays its shells out, and with which numbers it calls its units, does not matter.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules import Conv

from detgraft.blocks.parts.followed import FollowedConv
from detgraft.catalog.shells import PLACES, UNITS, place_in, shell_of
from detgraft.catalog.spec import Filling, Graft
from detgraft.errors import ArgumentError, CatalogError
from detgraft.upstream.parser.carriers import Withheld, withholding
from detgraft.upstream.release.capabilities import ULTRALYTICS_VERSION, stock_module

_PROBE = (1, 16, 16)
"""Batch, height and width of the map on which a block is asked whether it keeps its size."""

_KERNEL = 3
"""Of a convolution in place of something that has no kernel of its own."""


def shell_options(name: str) -> dict[str, Any]:
    """Return the options of a stock shell's row, behind the output channels, with their defaults, in order."""
    parameters = list(inspect.signature(_stock(name).__init__).parameters.values())[1:]
    return {p.name: p.default for p in parameters if p.name not in ("c1", "c2", "n")}


def _stock(name: str) -> type[nn.Module]:
    found = stock_module(name)
    if found is None:
        raise CatalogError(f"this Ultralytics has no {name}")
    return found


def fill(filling: Filling, block: Graft, options: Mapping[str, Any], given: tuple[Any, ...]) -> nn.Module:
    """Make a stock shell with a block inside.

    Args:
        filling: The shell and where the block goes.
        block: The block.
        options: Its options, checked.
        given: What the stock parser passes to the shell.

    Raises:
        ArgumentError: The block changes the size of its input, or the shell has no such place.
        CatalogError: This release has no such shell, or makes it of other units.
    """
    kind, shell = _stock(filling.shell), shell_of(filling.shell)
    assert shell is not None  # a filling is made for a known shell
    units = [unit for name in shell.units if (unit := getattr(sys.modules[kind.__module__], name, None)) is not None]
    with withholding(units):
        made: nn.Module = kind(*given)
    places = [
        (parent, name, child)
        for parent in list(made.modules())
        for name, child in parent.named_children()
        if isinstance(child, Withheld)
    ]
    if not places:
        raise CatalogError(
            f"the {filling.shell} of ultralytics {ULTRALYTICS_VERSION} holds no {' or '.join(shell.units)} here, so "
            f"'{block.name}' finds no place in it"
        )
    for parent, name, unit in places:
        setattr(parent, name, _Unit(unit, filling).filled(block, options))
    return made


class _Unit:
    """One unit of a shell, before it is made.

    Args:
        withheld: What stands in its place.
        filling: What goes inside the shell.
    """

    def __init__(self, withheld: Withheld, filling: Filling) -> None:
        self.withheld = withheld
        self.filling = filling
        self.name = withheld.kind.__name__
        bound = inspect.signature(withheld.kind.__init__).bind(None, *withheld.args, **withheld.kwargs)
        bound.apply_defaults()
        _, self.channels, *_ = bound.arguments.values()
        self.numbers = dict(bound.arguments)

    def filled(self, block: Graft, options: Mapping[str, Any]) -> nn.Module:
        """Make the unit with the block inside."""
        at = place_in(self.name, block, self.filling.at)
        if not at:
            known = ", ".join(UNITS[self.name])
            raise ArgumentError(
                f"this {self.filling.shell} is made of {self.name}, whose places are {known}; at={self.filling.at} "
                f"({PLACES[self.filling.at]}) is none of them. Narrow the site, or name another place"
            )
        if at == "bottleneck":
            outputs = self.numbers.get("c2", self.channels)
            return _made(block, options, self.channels, outputs, self.numbers, _square(self.numbers.get("k")))
        unit: nn.Module = self.withheld.kind(*self.withheld.args, **self.withheld.kwargs)
        part = UNITS[self.name][at]
        old = getattr(unit, part)
        if at == "after":
            new = self._behind(old, block, options)
        elif at in ("cv1", "cv2"):
            new = self._convolution(next(m for m in old.modules() if isinstance(m, nn.Conv2d)), block, options)
        else:
            new = _made(block, options, self.channels, self.channels, self.numbers, None)
        setattr(unit, part, new)
        return unit

    def _behind(self, old: nn.Module, block: Graft, options: Mapping[str, Any]) -> nn.Module:
        channels = self.numbers.get("c2", self.channels)
        then = _made(block, options, channels, channels, self.numbers, None)
        if isinstance(old, nn.Sequential):
            return old.append(then)
        return FollowedConv(old.conv, old.bn, old.act, then)  # type: ignore[arg-type]

    def _convolution(self, old: nn.Conv2d, block: Graft, options: Mapping[str, Any]) -> nn.Module:
        c1, c2 = old.in_channels, old.out_channels
        numbers = {**self.numbers, "g": old.groups}
        if block.channels != "same" or c1 == c2:
            return _made(block, options, c1, c2, numbers, _square(old.kernel_size))
        # The block keeps its channels, so a 1x1 convolution changes them, on the side where they are more.
        narrow = _made(block, options, min(c1, c2), min(c1, c2), numbers, None)
        return nn.Sequential(Conv(c1, c2, 1), narrow) if c1 > c2 else nn.Sequential(narrow, Conv(c1, c2, 1))


def _square(kernel: Any) -> int | None:
    """The side of a kernel; of a unit's two kernels the second one's; None where it is not square or not known."""
    if isinstance(kernel, (tuple, list)) and kernel and isinstance(kernel[-1], (tuple, list)):
        kernel = kernel[-1]
    if isinstance(kernel, (tuple, list)):
        return int(kernel[0]) if len(set(kernel)) == 1 else None
    return kernel if isinstance(kernel, int) else None


def _made(
    block: Graft, options: Mapping[str, Any], c1: int, c2: int, unit: Mapping[str, Any], kernel: int | None
) -> nn.Module:
    """Make the block, with the numbers of what it replaces where it has options of the same meaning."""
    names = {parameter.name for parameter in block.parameters()}
    carried: dict[str, Any] = {}
    if block.channels != "same":
        carried |= {"k": kernel or _KERNEL, "s": 1, "stride": 1}
    carried |= {name: unit[name] for name, usual in (("g", 1), ("shortcut", None)) if unit.get(name, usual) != usual}
    chosen = {name: value for name, value in carried.items() if name in names and name not in options} | dict(options)
    leading: list[int] = [c1] if block.channels == "same" else [c1, c2]
    if block.channels == "same" and c1 != c2:
        raise ArgumentError(f"'{block.name}' keeps its channels, and here {c1} are to become {c2}")
    if block.repeats == "inside":
        leading.append(1)
    arguments = {**block.preset, **chosen}
    _refuse_resizing(block, leading, c2, arguments)
    try:
        return block.load()(*leading, **arguments)  # type: ignore[no-any-return]
    except ArgumentError as error:
        raise ArgumentError(
            f"'{block.name}' cannot be made here with {_listed(leading, arguments)}: {error}"
        ) from error


def _refuse_resizing(block: Graft, leading: list[int], channels: int, arguments: Mapping[str, Any]) -> None:
    """Raise for a block that changes the size of its map; looked at once for a block with its options."""
    key = (block, repr(sorted(arguments.items())))
    if key not in _resized:
        if len(_resized) >= _REMEMBERED:
            _resized.clear()
        _resized[key] = _resizing(block, leading, channels, arguments)
    if _resized[key]:
        raise ArgumentError(f"a block inside a shell keeps the size of its map, but '{block.name}' {_resized[key]}")


_REMEMBERED = 512
_resized: dict[tuple[Graft, str], str] = {}


def _resizing(block: Graft, leading: list[int], channels: int, arguments: Mapping[str, Any]) -> str:
    batch, height, width = _PROBE
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
            found = block.load()(*leading, **arguments).eval()(torch.zeros(batch, leading[0], height, width))
    except Exception:  # without a form for shapes alone, or refused below, where it is made
        return ""
    expected = (batch, channels, height, width)
    shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    return "" if shape == expected else f"makes {shape} of {(batch, leading[0], height, width)}"


def _listed(leading: list[int], arguments: Mapping[str, Any]) -> str:
    return ", ".join([*map(str, leading), *(f"{name}={value!r:.40}" for name, value in arguments.items())])
