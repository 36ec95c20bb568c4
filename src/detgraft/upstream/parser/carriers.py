"""Stock classes whose construction is hooked, so that Ultralytics' own parser builds grafts.

A class that a lowered row names gets a ``__new__``, once and for good. While a build of detgraft is under way in the
current thread, a call with a :class:`RowKey` among its arguments returns the graft of that row. Every other call
builds the stock module, so genuine rows, checkpoints, copies and subclasses are untouched. How the parser finds its
classes and where it keeps its sets of them does not matter.

The units of a stock shell are hooked in the same way: while a shell is being made, they are :class:`Withheld`, and what
stands inside in the end is made once the shell is there.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from torch import nn
from ultralytics.utils import LOGGER


class RowKey(int):
    """Names a grafted row among the arguments of a lowered row.

    An integer, because the parser evaluates strings; a class of its own, so that no genuine argument is mistaken.
    """

    def __repr__(self) -> str:
        return f"<graft of layer {int(self)}>"


@dataclass(frozen=True)
class Construction:
    """What the hooked classes do during one run of the parser.

    Args:
        make: Called with the key and the other arguments of a keyed row; returns its module.
        blank: Whether all other calls cost nothing, give modules without parameters and log nothing; for finding
            channels.
        line: Called with a line of the build log; returns what is printed in its place.
    """

    make: Callable[[RowKey, tuple[Any, ...]], nn.Module]
    blank: bool = False
    line: Callable[[str], str] = str


class Held(nn.Module):
    """Carries a graft whose class derives from its carrier's, which Python would otherwise initialise a second time.

    Args:
        module: The graft.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


class _Blank(nn.Module):
    """Stands for any layer while only channel counts are wanted: no parameters, every attribute is itself."""

    def __getattr__(self, name: str) -> Any:
        return self


class Withheld(nn.Module):
    """Stands in a shell for a unit that is not made yet.

    Args:
        kind: The unit's class.
        args: What it was to be made with.
        kwargs: The same, by name.
    """

    def __init__(self, kind: type[nn.Module], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.kind = kind
        self.args = args
        self.kwargs = kwargs


current: ContextVar[Construction | None] = ContextVar("detgraft_construction", default=None)
"""The construction under way in this thread; None outside of detgraft's builds."""

_withheld: ContextVar[frozenset[type]] = ContextVar("detgraft_withheld", default=frozenset())
"""Classes that are not made now; empty but while a shell is being made in this thread."""

_hooked: weakref.WeakSet[type] = weakref.WeakSet()
_hooking = threading.Lock()


@contextlib.contextmanager
def under_construction(construction: Construction, classes: Iterable[type]) -> Iterator[None]:
    """Let the given classes build what ``construction`` says, in this thread.

    Args:
        construction: What they do.
        classes: The stock classes that the lowered rows name.
    """
    for original in classes:
        hook(original)
    LOGGER.addFilter(_filter)  # it stays: taking it off could make another thread's message skip a filter
    token = current.set(construction)
    try:
        yield
    finally:
        current.reset(token)


@contextlib.contextmanager
def withholding(classes: Iterable[type]) -> Iterator[None]:
    """Have the given classes give a :class:`Withheld` in their place inside, in this thread; not their subclasses.

    Args:
        classes: The units of a shell; none to have them made again.
    """
    wanted = frozenset(classes)
    for original in wanted:
        hook(original)
    token = _withheld.set(wanted)
    try:
        yield
    finally:
        _withheld.reset(token)


class _BuildLog(logging.Filter):
    """Gives the lines of grafted layers the graft's own name and arguments, in the thread that builds them."""

    def filter(self, record: logging.LogRecord) -> bool:
        construction = current.get()
        if construction is not None and not construction.blank:
            message = record.getMessage()
            named = construction.line(message)
            if named != message:
                record.msg, record.args = named, ()
        return construction is None or not construction.blank


_filter = _BuildLog()


def hook(original: Any) -> None:
    """Hook the construction of a class; calling it again does nothing.

    Args:
        original: The stock class.
    """
    with _hooking:
        if original in _hooked:
            return
        own = original.__new__ if "__new__" in vars(original) else None

        def new(cls: Any, *args: Any, **kwargs: Any) -> Any:
            if cls in _withheld.get():
                return Withheld(cls, args, kwargs)
            construction = current.get()
            if construction is not None:
                key = next((value for value in args if isinstance(value, RowKey)), None)
                if key is not None:
                    made = construction.make(key, tuple(value for value in args if not isinstance(value, RowKey)))
                    return Held(made) if isinstance(made, cls) else made
                if construction.blank:
                    return _Blank()
            following: Any = own or super(original, cls).__new__
            # object's own refuses arguments once a class has another __new__.
            return following(cls) if following is object.__new__ else following(cls, *args, **kwargs)

        # The bound slot, since inspect would take a function here for the signature of the class and its subclasses.
        original.__new__ = new.__call__  # type: ignore[operator]
        _hooked.add(original)
