"""The classes that take a stock module's place while one model is parsed.

Ultralytics' parser looks module names up in its global names and compares classes by identity. It is run with names of
which a few are bound to stand-ins made here, for this one build only. A stand-in called with a :class:`RowKey` builds
the graft of that row; called any other way it builds the stock module, so genuine rows are untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class RowKey(int):
    """Names a grafted row among the arguments of a lowered row.

    An integer, because the parser evaluates strings; a class of its own, so that no genuine argument is mistaken.
    """

    def __repr__(self) -> str:
        return f"<graft of layer {int(self)}>"


class _StandInType(type):
    """Looks like the class that it stands for.

    The parser takes a layer's type from the class's text and reads class attributes (``Conv.default_act``).
    """

    original: type

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.original, name)

    def __repr__(cls) -> str:
        return repr(cls.original)


def make_stand_in(original: type, construct: Callable[[RowKey, tuple[Any, ...]], nn.Module]) -> type:
    """Return a class that builds grafts for keyed rows and ``original`` for all others.

    Args:
        original: The stock module class.
        construct: Called with the key and the other arguments; returns the graft.
    """

    def build(_cls: type, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[-1], RowKey):
            return construct(args[-1], args[:-1])
        return original(*args, **kwargs)

    # An nn.Module subclass, since restricted loading accepts nothing else; what __new__ returns is never an instance of
    # it, so no __init__ follows.
    return _StandInType(original.__name__, (nn.Module,), {"__new__": build, "original": original})


class _Blank(nn.Module):
    """Stands for any layer while only channel counts are wanted: no parameters, every attribute is itself."""

    def __getattr__(self, name: str) -> Any:
        return self


def make_blank(original: type) -> type:
    """Return a class that costs nothing to build and prints like ``original``."""

    def build(_cls: type, *_args: Any, **_kwargs: Any) -> Any:
        return _Blank()

    return _StandInType(original.__name__, (nn.Module,), {"__new__": build, "original": original})
