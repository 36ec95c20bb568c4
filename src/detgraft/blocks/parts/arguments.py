"""Checks of constructor arguments that several blocks share.

No paper: plumbing, so that a value which cannot work gives one clear error instead of a failure inside torch.
"""

from __future__ import annotations

from detgraft.errors import ArgumentError


def require_positive(block: str, **values: int | None) -> None:
    """Check that whole numbers are at least 1; None stands for "worked out by the block" and passes.

    Args:
        block: Name of the block, for the message.
        **values: The arguments under their names.

    Raises:
        ArgumentError: A value is below 1 or not a whole number.
    """
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ArgumentError(f"{block}: {name} must be a whole number of at least 1, found {value!r}")


def require_padding(block: str, p: int | None) -> None:
    """Check a padding: None (keep the size at stride 1) or a whole number of at least 0.

    Raises:
        ArgumentError: The padding is neither.
    """
    if p is not None and (isinstance(p, bool) or not isinstance(p, int) or p < 0):
        raise ArgumentError(f"{block}: p must be None or a whole number of at least 0, found {p!r}")


def require_multiple(block: str, divisor: str, by: int, **channels: int) -> None:
    """Check that channel numbers are multiples of another argument.

    Args:
        block: Name of the block, for the message.
        divisor: Name of the argument that must divide the channels.
        by: Its value, at least 1.
        **channels: Channel numbers under their names.

    Raises:
        ArgumentError: A channel number is no multiple of it.
    """
    for name, value in channels.items():
        if value % by:
            raise ArgumentError(
                f"{block}: {name} must be a multiple of {divisor}={by}, found {name}={value}; "
                f"choose a {divisor} that divides {value}"
            )
