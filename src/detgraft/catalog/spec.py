"""What a graft's name means: its class, its rule for channels and repeats, its arguments, where it comes from.

No torch at import: classes are named as text and imported when a model is built from them.
"""

from __future__ import annotations

import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from detgraft.errors import ArgumentError, CatalogError, Location, nearest

ChannelRule = Literal["scaled", "same", "fixed", "pyramid", "concat", "fuse", "refine", "structure"]
RepeatRule = Literal["stack", "inside"]

CHANNEL_RULES: tuple[ChannelRule, ...] = ("scaled", "same", "fixed", "pyramid", "concat", "fuse", "refine")
REPEAT_RULES: tuple[RepeatRule | None, ...] = (None, "stack", "inside")

NAME = re.compile(r"[A-Za-z_][\w.\-]*(?:/[\w.\-]+)?")
"""The names that a graft expression can hold."""

# What the framework passes first, before the arguments of a row.
_LEADING: Mapping[ChannelRule, tuple[str, ...]] = {
    "scaled": ("input channels", "output channels"),
    "fixed": ("input channels", "output channels"),
    "same": ("input channels",),
    "concat": ("list of input channels",),
    "fuse": ("list of input channels", "output channels"),
    "pyramid": ("input channels",),
    "refine": ("list of input channels",),
    "structure": ("the base",),
}


@dataclass(frozen=True)
class Provenance:
    """Where a block was described first.

    Args:
        paper: Title, venue and year.
        source: The official repository.
        licence: Licence of the official code.
        weights_licence: Licence of published weights, where there are any.
    """

    paper: str = ""
    source: str = ""
    licence: str = ""
    weights_licence: str = ""


@dataclass(frozen=True)
class Filling:
    """What goes inside a stock shell, see `detgraft.catalog.shells`.

    Args:
        shell: Class name of the shell.
        block: Name of the graft inside.
        at: Where it goes; empty for the block's own default.
        options: The block's options.
    """

    shell: str
    block: str
    at: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)  # an entry is itself: it is looked up by name, never compared by content
class Graft:
    """One catalogue entry.

    Args:
        name: The name used in YAML rows and, without regard to case, in expressions.
        target: The class, or ``"module:attribute"`` imported on first use.
        channels: How output channels follow: ``scaled`` like Conv (by the model scale, to a multiple of 8), ``same``
            as the input, ``fixed`` as written, ``pyramid`` (a backbone with features at strides 4 to 32), ``concat``
            (the sum of several inputs), ``fuse`` (several inputs, and a number of its own that is scaled like Conv's),
            ``refine`` (a list of features in, the list out, in front of the head), ``structure`` (no row: it changes
            the skeleton, see :mod:`detgraft.plan.structure`).
        repeats: ``stack`` builds the block several times in a row, ``inside`` passes the number to the constructor
            after the channels, None refuses repeats.
        aliases: Other names with the same meaning.
        preset: Arguments fixed by the name itself (``size="atto"``).
        like: A stock module whose own parser rule the row follows (C3k2's rule for scales m, l and x, for example).
        site: Default site of the graft in an expression.
        summary: One line for ``detgraft list``.
        provenance: Paper, source and licences.
        origin: ``detgraft``, or the plug-in that registered it.
        takes_weights: The block accepts a file of pretrained weights.
        drops: Arguments of a replaced row that have no meaning for the block, such as the kernel for a wavelet.
        known_as: What other repositories call it. Not accepted, since their forms may differ, but proposed.
        spelling: How other repositories write its row, where the same values mean something else here; ends an error.
        at: Where the block goes inside a stock shell by default, a key of `detgraft.catalog.shells.PLACES`. Empty for
            what its rule and site suggest: convolutions in place of the second one, attention behind it, all others in
            place of the whole unit. Checkpoints rely on it, so it never changes.
        filling: The graft is a stock shell (``like``) with another graft inside; its row is the shell's. ``target``
            then names the options of a row in the graft's own order; without one they are the stock module's.
    """

    name: str
    target: str | Callable[..., Any]
    channels: ChannelRule
    repeats: RepeatRule | None = None
    aliases: tuple[str, ...] = ()
    preset: Mapping[str, Any] = field(default_factory=dict)
    like: str | None = None
    site: str = ""
    summary: str = ""
    provenance: Provenance = field(default_factory=Provenance)
    origin: str = "detgraft"
    takes_weights: bool = False
    drops: tuple[str, ...] = ()
    known_as: tuple[str, ...] = ()
    spelling: str = ""
    at: str = ""
    filling: Filling | None = None

    def load(self) -> Callable[..., Any]:
        """Import and return the class or factory.

        Raises:
            CatalogError: The entry names something that cannot be imported.
        """
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        try:
            found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise CatalogError(f"the graft '{self.name}' cannot be loaded from {self.target}: {error}") from error
        return found

    def parameters(self) -> tuple[inspect.Parameter, ...]:
        """Return the parameters that a row may give, with resolved annotations, in order.

        Raises:
            CatalogError: The constructor does not begin with what the channel rule passes.

        Of a shell with the stock module's own options there are none to name.
        """
        if self.filling is not None and not self.target:
            return ()
        known: tuple[inspect.Parameter, ...] | None = self.__dict__.get("_parameters")
        if known is None:
            known = self._found_parameters()
            object.__setattr__(self, "_parameters", known)  # an entry never changes, and every row asks
        return known

    def _found_parameters(self) -> tuple[inspect.Parameter, ...]:
        target = self.load()
        function = target.__init__ if inspect.isclass(target) else target
        signature = inspect.signature(function)
        hints = _hints(function)
        free = [
            p.replace(annotation=hints.get(p.name, inspect.Parameter.empty))
            for p in signature.parameters.values()
            if p.name != "self" and p.name not in self.preset
        ]
        leading = [*_LEADING[self.channels], *(["number of repeats"] if self.repeats == "inside" else [])]
        positional = [p for p in free if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        if len(positional) < len(leading):
            raise CatalogError(
                f"'{self.name}' has the channel rule '{self.channels}', so its constructor must take "
                f"{', '.join(leading)} first; it takes ({', '.join(p.name for p in free)})"
            )
        return tuple(positional[len(leading) :])

    def refuse_other_presets(self) -> None:
        """Raise where the name fixes an argument that the constructor does not have, or that the rule passes.

        Raises:
            CatalogError: Such a preset.
        """
        target = self.load()
        parameters = inspect.signature(target.__init__ if inspect.isclass(target) else target).parameters
        count = len(_LEADING[self.channels]) + (self.repeats == "inside")
        leading = [name for name in parameters if name != "self"][: 0 if self.channels == "pyramid" else count]
        for name in self.preset:
            if name in leading:  # these are passed by position
                raise CatalogError(f"'{self.name}' presets '{name}', which the channel rule '{self.channels}' passes")
        if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            return
        for name in self.preset:
            if name not in parameters:
                known = [known for known in parameters if known != "self"]
                raise CatalogError(
                    f"'{self.name}' presets '{name}', which its constructor does not have; it takes "
                    f"({', '.join(known)}).{nearest(name, known)}"
                )

    def bind(self, args: tuple[Any, ...], keywords: Mapping[str, Any], location: Location | None) -> dict[str, Any]:
        """Match a row's arguments with the constructor and check count and types.

        Args:
            args: Positional arguments after the channels.
            keywords: Named arguments.
            location: Where they were written.

        Returns:
            Every given argument under its parameter's name.

        Raises:
            ArgumentError: Too many arguments, an unknown or doubled name, or a wrong type.
        """
        parameters = self.parameters()
        known = [p.name for p in parameters]
        if len(args) > len(parameters):
            expected = f"at most {len(parameters)} ({', '.join(known)})" if known else "none"
            raise ArgumentError(
                f"'{self.name}' takes {expected} argument(s) here, found {len(args)}: {list(args)}", location
            )
        bound = dict(zip(known, args, strict=False))
        for name, value in keywords.items():
            if name not in known:
                raise ArgumentError(
                    f"'{self.name}' has no argument '{name}'; it has {', '.join(known) or 'none'}."
                    f"{nearest(name, known)}",
                    location,
                )
            if name in bound:
                raise ArgumentError(f"'{self.name}' is given its argument '{name}' twice", location)
            bound[name] = value
        for parameter in parameters:
            if parameter.name in bound:
                bound[parameter.name] = _checked(self.name, parameter, bound[parameter.name], location)
            elif parameter.default is inspect.Parameter.empty:
                raise ArgumentError(f"'{self.name}' needs the argument '{parameter.name}'", location)
        return bound


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):  # an own block may annotate with names that exist for type checkers only
        return {}


def _checked(graft: str, parameter: inspect.Parameter, value: Any, location: Location | None) -> Any:
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty or fits(value, annotation):
        return value
    expected = annotation.__name__ if inspect.isclass(annotation) else str(annotation).replace("typing.", "")
    raise ArgumentError(
        f"argument '{parameter.name}' of '{graft}' must be {expected}, found {value!r:.80} ({type(value).__name__})",
        location,
    )


def fits(value: Any, annotation: Any) -> bool:
    """Say whether a value from a row fits a parameter's annotation; what cannot be told fits."""
    origin = typing.get_origin(annotation)
    if annotation is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in typing.get_args(annotation))
    if origin is Literal:
        return value in typing.get_args(annotation)
    if annotation is None or annotation is type(None):
        return value is None
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation in (bool, str):
        return isinstance(value, annotation)
    container = origin if inspect.isclass(origin) else annotation
    if container in (list, tuple):
        return isinstance(value, (list, tuple))
    # Anything else (an nn.Module, say) cannot be written in a YAML, so there is nothing to compare with.
    return not isinstance(value, (bool, int, float, str, type(None))) if inspect.isclass(container) else True
