"""One way to let a public name go: it answers for a while, says what to use, and its docstring says so, too."""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import inspect
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def notice(name: str, *, since: str, gone_in: str, use: str) -> str:
    """Return the sentence of a deprecated name.

    Args:
        name: The name that goes.
        since: The version that deprecated it.
        gone_in: The version that removes it.
        use: What to use instead.
    """
    return f"{name} is deprecated since detgraft {since} and goes in {gone_in}; use {use}"


def deprecated(*, since: str, gone_in: str, use: str) -> Callable[[F], F]:
    """Deprecate a function, a method or a class: each call warns, and the docstring begins with the sentence.

    Args:
        since: The version that deprecates it.
        gone_in: The version that removes it.
        use: What to use instead.

    Returns:
        A decorator.
    """

    def decorate(target: F) -> F:
        sentence = notice(target.__qualname__, since=since, gone_in=gone_in, use=use)
        doc = f"Deprecated: {sentence}.\n\n{inspect.cleandoc(target.__doc__ or '')}".rstrip()
        if isinstance(target, type):
            kind: Any = target
            original = kind.__init__

            @functools.wraps(original)
            def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
                if type(self) is kind:  # a subclass has a name of its own
                    warnings.warn(sentence, DeprecationWarning, stacklevel=2)
                original(self, *args, **kwargs)

            kind.__init__ = __init__
            kind.__doc__ = doc
            return target

        @functools.wraps(target)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            warnings.warn(sentence, DeprecationWarning, stacklevel=2)
            return target(*args, **kwargs)

        wrapper.__doc__ = doc
        return wrapper  # type: ignore[return-value]

    return decorate


class _Forwarding(importlib.abc.Loader):
    """Makes a module that has nothing of its own: each name is looked up in the module's new place."""

    def __init__(self, new: str, sentence: str) -> None:
        self._new = new
        self._sentence = sentence

    def exec_module(self, module: ModuleType) -> None:
        new, sentence = self._new, self._sentence

        def __getattr__(name: str) -> Any:
            if name.startswith("__"):  # what import and pickle ask every module for
                raise AttributeError(name)
            found = getattr(importlib.import_module(new), name)
            warnings.warn(sentence, DeprecationWarning, stacklevel=2)
            return found

        module.__doc__ = f"Deprecated: {sentence}."
        module.__dict__["__getattr__"] = __getattr__


class MovedModules(importlib.abc.MetaPathFinder):
    """Finds modules under the names that they had before they moved.

    Args:
        moved: New full name by old full name.
        since: The version that moved them.
        gone_in: The version that forgets the old names, or "no version" for names that checkpoints hold.
    """

    def __init__(self, moved: Mapping[str, str], *, since: str, gone_in: str) -> None:
        self.moved = dict(moved)
        self._since, self._gone_in = since, gone_in

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a forwarding module for an old name, None for all others."""
        new = self.moved.get(fullname)
        if new is None:
            return None
        sentence = notice(fullname, since=self._since, gone_in=self._gone_in, use=new)
        return importlib.machinery.ModuleSpec(fullname, _Forwarding(new, sentence), origin=new)

    def install(self) -> None:
        """Ask this finder last; installing it twice does nothing."""
        if not any(isinstance(finder, MovedModules) and finder.moved == self.moved for finder in sys.meta_path):
            sys.meta_path.append(self)
