"""A channel number in front of a row's options, where a block takes its channels from the layer before.

Public YAMLs often write ``CBAM, [1024, 7]`` for a block that keeps its channels; here the row's first value is the
block's first option. A number that can only be channels is therefore told from an option in one place, for every block
whose channels follow from its inputs, own ones included.
"""

from __future__ import annotations

import inspect
from typing import Any

from detgraft.catalog.spec import Graft, fits
from detgraft.errors import ArgumentError
from detgraft.plan.rows import Row, Scaling

LARGEST_OPTION = 63
"""The largest kernel, factor or ratio of any published block; whatever is larger counts channels."""

_UNLIKELY = 16
"""An option below it is common (a kernel, a factor), even where a very narrow layer has as many channels."""


def without_channels(
    entry: Graft, args: tuple[Any, ...], channels: int, scaling: Scaling, row: Row
) -> tuple[tuple[Any, ...], str]:
    """Take the channel numbers off the front of a row's values.

    Args:
        entry: The graft, whose channels follow from its inputs.
        args: The row's values.
        channels: The channels that the layer has.
        scaling: The model's scale; a number counts as written or scaled.
        row: The row, for messages.

    Returns:
        The block's options, and a sentence for the log: what was dropped, or what may be meant otherwise; often empty.

    Raises:
        ArgumentError: A number that can only be channels and is not this layer's; shows the row to write.
    """
    dropped: list[int] = []
    while len(dropped) < 2 and args and only_channels(entry, args):  # some repositories write input and output
        if args[0] not in (channels, *dropped) and scaling.channels(args[0]) != channels:
            raise ArgumentError(
                f"'{entry.name}' takes its channels from the layer before, which gives {channels}, so {args[0]} can be "
                f"neither its channels ({_scaled(args[0], scaling)}) nor {_first_option(entry)}. "
                f"Write {_as_row(row, args[1:])}",
                row.location,
            )
        dropped.append(args[0])
        args = args[1:]
    if dropped:
        numbers = ", ".join(map(str, dropped))
        return args, (
            f"{row.location}: '{entry.name}' takes its channels from the layer before ({channels}); "
            f"the leading {numbers} is left out, as in {_as_row(row, args)}"
        )
    if args and _is_number(args[0]) and args[0] >= _UNLIKELY and channels in (args[0], scaling.channels(args[0])):
        return args, (
            f"{row.location}: '{entry.name}' reads {args[0]} as {_first_option(entry)}, not as the {channels} "
            f"channels, which it takes from the layer before; if channels were meant, write {_as_row(row, args[1:])}"
        )
    return args, ""


def hint_for(entry: Graft) -> str:
    """Return how a row of a graft is written, for the end of an error about its values."""
    if entry.channels != "same":
        return ""
    options = ", ".join(parameter.name for parameter in entry.parameters()) or "none"
    spelling = f" {entry.spelling}." if entry.spelling else ""
    return f" A row of '{entry.name}' has no channel number; its options are, in this order: {options}.{spelling}"


def only_channels(entry: Graft, args: tuple[Any, ...]) -> bool:
    """Say whether the first value of a row is a whole number that cannot be the block's first option."""
    value = args[0]
    if not _is_number(value) or value < 1:
        return False
    parameters = entry.parameters()
    if not parameters:
        return True
    first = parameters[0]
    if first.default is inspect.Parameter.empty:  # the block cannot do without it
        return len(args) > len(parameters)
    if first.annotation is not inspect.Parameter.empty and not fits(value, first.annotation):
        return True
    default = first.default
    if isinstance(default, float) and 0 <= default < 1:  # a share or a small constant
        return bool(value > 1)
    usual = not _is_number(default) or default <= LARGEST_OPTION
    return bool(usual and value > LARGEST_OPTION)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _scaled(value: int, scaling: Scaling) -> str:
    scaled = scaling.channels(value)
    return f"{scaled} at width {scaling.width:g}" if scaled != value else "at this width"


def _first_option(entry: Graft) -> str:
    parameters = entry.parameters()
    return f"its option {parameters[0].name}" if parameters else "an option: it has none"


def _as_row(row: Row, args: tuple[Any, ...]) -> str:
    source = list(row.written_from) if isinstance(row.written_from, tuple) else row.written_from
    values = ", ".join("None" if value is None else str(value) for value in args)
    return f"[{source}, {row.repeats}, {row.module}, [{values}]]"
