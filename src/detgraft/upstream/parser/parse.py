"""Builds the layers of a model description with the real Ultralytics parser.

The parser runs as it is, with its own names; only what a few of its classes construct is another thing while a build of
ours is under way (:mod:`detgraft.upstream.parser.carriers`).
"""

from __future__ import annotations

import contextlib
import inspect
import operator
import re
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from ultralytics.nn import tasks

from detgraft.errors import DetgraftError, Location, PlanError, UpstreamError
from detgraft.plan.rows import LISTS, Plan, Row
from detgraft.upstream.parser.carriers import Construction, Held, RowKey, under_construction
from detgraft.upstream.parser.lower import CARRIER, Joined, Lowered, lower
from detgraft.upstream.release.canary import Trial, check_release
from detgraft.upstream.release.capabilities import ULTRALYTICS_VERSION, stock_module

_LOG_INDEX = re.compile(r"^\s*(\d+)\s")

_parsing = threading.RLock()
"""Held while the real parser runs: it keeps the activation in force (``Conv.default_act``) and the head's ``legacy``
flag in its classes, where another thread's model would read them."""


@dataclass(frozen=True)
class Call:
    """A call of the real ``parse_model``, with whatever further arguments the installed release has.

    Args:
        original: The real function.
        mapping: The model description.
        ch: Image channels.
        further: Positional arguments after these.
        keywords: Arguments that can be given by name only.
    """

    original: Callable[..., Any]
    mapping: dict[str, Any]
    ch: int
    further: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
        """Match arguments with the real function's parameters: the description comes first, the channels second.

        Raises:
            UpstreamError: This release's parser wants more than Ultralytics' models give it.
            TypeError: The caller's arguments do not fit; in the words of Python.
        """
        try:
            bound = inspect.signature(original).bind(*args, **kwargs)
        except TypeError as error:
            if not str(error).startswith("missing a required argument"):
                raise
            raise UpstreamError(
                f"the parser of ultralytics {ULTRALYTICS_VERSION} takes other arguments than it is given: {error}; "
                "docs/compatibility.md lists the releases that were tried"
            ) from error
        mapping, ch, *further = bound.args
        return cls(original, mapping, ch, tuple(further), bound.kwargs)

    def run(self, mapping: dict[str, Any] | None = None) -> Any:
        """Run the real parser; one thread at a time.

        Args:
            mapping: Another description.
        """
        with _parsing, _default_activation_kept():
            return self.original(self.mapping if mapping is None else mapping, self.ch, *self.further, **self.keywords)


def parse_grafted(call: Call, plan: Plan) -> Any:
    """Build a grafted model description.

    Args:
        call: The call of the real ``parse_model``.
        plan: The description's plan.

    Returns:
        What the real function returns: the layers, and the indices of the layers whose output is kept.

    Raises:
        UpstreamError: The installed release cannot build grafts.
        DetgraftError: The description cannot be built.
    """
    _check_release(call)
    return _Build(call, plan).run()


def parse_stock(call: Call, plan_of: Callable[[], Plan]) -> Any:
    """Build a description without grafts: the real parser as it is; only its failures are put into words.

    Args:
        call: The call of the real ``parse_model``.
        plan_of: Makes the description's plan; called after a failure only, for its locations.

    Raises:
        DetgraftError: The description cannot be built; names the row.
    """
    try:
        return call.run()
    except DetgraftError:
        raise
    except Exception as error:
        raise explain(call.original, plan_of(), error) from error


def declared_channels(call: Call, plan: Plan) -> list[Any]:
    """Return what the real parser takes for the output channels of every layer but the head.

    Args:
        call: A call of the real ``parse_model`` with a description, grafted or not.
        plan: The description's plan.

    Returns:
        Per layer a number, or a list of numbers for a layer with several outputs.

    Raises:
        UpstreamError: The installed release cannot build grafts.
    """
    _check_release(call)
    return _Build(call, plan).declared()


def explain(original: Any, plan: Plan, error: Exception) -> DetgraftError:
    """Say which row the real parser stumbled over, read from its own loop variable.

    Args:
        original: The real ``parse_model``.
        plan: The plan that was parsed.
        error: What it raised, with its traceback.
    """
    index, traceback = None, error.__traceback__
    code = inspect.unwrap(original).__code__
    while traceback is not None:
        if traceback.tb_frame.f_code is code:
            index = traceback.tb_frame.f_locals.get("i")
        traceback = traceback.tb_next
    text = f"{type(error).__name__}: {error}".strip()[:300]
    if isinstance(index, int) and index < sum(row.span for row in plan.rows):
        row = plan.row_of_layer(index)
        return PlanError(f"'{row.module}' with arguments {list(row.args)!r:.200} cannot be built: {text}", row.location)
    return UpstreamError(
        f"the parser of ultralytics {ULTRALYTICS_VERSION} refused the model: {text}", Location(plan.source)
    )


_checked: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()


def _check_release(call: Call) -> None:
    """Try the real parser before its first grafted build; a reloaded ``ultralytics.nn.tasks`` has another one."""
    if call.original in _checked:
        return

    def run(mapping: dict[str, Any]) -> Trial:
        given: dict[int, tuple[Any, ...]] = {}
        made: dict[int, nn.Module] = {}

        def record(key: RowKey, args: tuple[Any, ...]) -> nn.Module:
            given[int(key)], made[int(key)] = args, nn.Identity()
            return made[int(key)]

        return Trial(_run(call, mapping, Construction(record, blank=True)), given, made)

    check_release(call.ch, RowKey, Joined, run)
    _checked.add(call.original)


def _run(call: Call, mapping: dict[str, Any], construction: Construction) -> Any:
    """Run the real parser on lowered rows while the classes that they name construct what they are told to."""
    rows = [*mapping["backbone"], *mapping["head"]]
    # For blank layers all classes but torch's own: these are single layers, and made on the meta device.
    names = {
        row[2]
        for row in rows
        if (not row[2].startswith(("nn.", "torchvision.")) if construction.blank else _is_keyed(row))
    }
    classes = [found for found in map(stock_module, names) if found is not None]
    with (
        torch.device("meta") if construction.blank else contextlib.nullcontext(),
        _parsing,
        under_construction(construction, classes),
    ):
        return call.run(mapping)


def _is_keyed(row: list[Any]) -> bool:
    return bool(row[3]) and isinstance(row[3][-1], RowKey)


class _Build:
    """One run of the real parser over one plan."""

    def __init__(self, call: Call, plan: Plan) -> None:
        self.call = call
        self.plan = plan
        self.backbones: dict[int, nn.Module] = {}
        self._probed: dict[int, tuple[int, ...]] | None = None

    def run(self) -> Any:
        lowered = lower(self.plan, self.channels_of, self.backbones)

        def make(key: RowKey, args: tuple[Any, ...]) -> nn.Module:
            return lowered.recipes[int(key)].make(args)

        construction = Construction(make, line=lambda line: _named(line, lowered))
        built = self._call(lowered, construction)
        layers = built[0]
        for index, recipe in lowered.recipes.items():
            if index < len(layers):
                layers[index] = _unwrapped(layers[index])
            if index >= len(layers) or not _is_made(layers[index], recipe.made):
                raise UpstreamError(
                    f"the parser of ultralytics {ULTRALYTICS_VERSION} did not build layer {index} ({recipe.name}) as "
                    "detgraft expects; docs/compatibility.md lists the releases that were tried"
                )
            layer: Any = layers[index]
            layer.f = list(layer.f) if isinstance(layer.f, Joined) else layer.f
            setattr(layers[index], "type", recipe.name)  # noqa: B010 - nn.Module declares `type` as a method
            if recipe.note:
                setattr(layers[index], "note", recipe.note)  # noqa: B010 - shown with the model, also after reopening
                tasks.LOGGER.info(recipe.note)
            # Profiling reads this count. Old releases write it on the row's class, which is the carrier here.
            setattr(layers[index], "np", sum(p.numel() for p in layers[index].parameters()))  # noqa: B010
        return built

    def declared(self) -> list[Any]:
        """Output channels of every layer but the head, as the parser hands them to the layers that read them."""
        lowered = lower(self.plan, self.channels_of, self.backbones)
        count = len(lowered.rows)
        seen = self._blank_run(lowered, range(count - 1))
        return [seen[index] for index in range(count - 1)]

    def channels_of(self, row: Row) -> tuple[int, ...]:
        """Find the input channels of a row, by running the parser's channel arithmetic over the rows before it."""
        if row.sources == (-1,):
            return (self.call.ch,)
        if _is_list(row):
            return self._probe([row], stop=row.index)[row.index]
        if self._probed is None:
            rows = [r for r in self.plan.rows if r.graft is not None and not _is_list(r)]
            self._probed = self._probe(rows, stop=None)
        return self._probed[row.index]

    def _probe(self, rows: list[Row], stop: int | None) -> dict[int, tuple[int, ...]]:
        """Run the real parser with blank layers; rows appended at the end report the channels that they are given."""
        last = max(row.index for row in rows)
        lowered = lower(self.plan, self.channels_of, self.backbones, placeholders=True, stop=stop or last + 1)
        sources = list(dict.fromkeys(source for row in rows for source in row.sources))
        seen = self._blank_run(lowered, sources)
        for row in rows:
            if not all(isinstance(seen[source], int) for source in row.sources):
                raise PlanError(f"'{row.module}' needs a layer with one feature as input", row.location)
        return {row.index: tuple(seen[source] for source in row.sources) for row in rows}

    def _blank_run(self, lowered: Lowered, sources: Iterable[int]) -> dict[int, Any]:
        """Run the real parser with blank layers and a row behind the end per source, which is told its channels."""
        seen: dict[int, Any] = {}
        probes: dict[int, int] = {}
        for source in sources:
            probes[len(lowered.rows)] = source
            lowered.rows.append([source, 1, CARRIER, [1, RowKey(len(lowered.rows))]])

        def capture(key: RowKey, args: tuple[Any, ...]) -> nn.Module:
            if int(key) in probes:
                seen[probes[int(key)]] = args[0]
            return nn.Identity()

        self._call(lowered, Construction(capture, blank=True))
        return seen

    def _call(self, lowered: Lowered, construction: Construction) -> Any:
        rows = {"backbone": lowered.rows[: lowered.split], "head": lowered.rows[lowered.split :]}
        try:
            return _run(self.call, {**self.call.mapping, **rows}, construction)
        except DetgraftError:
            raise
        except Exception as error:
            raise explain(self.call.original, self.plan, error) from error


def _is_list(row: Row) -> bool:
    return row.graft is not None and row.graft.channels in LISTS


def _unwrapped(layer: nn.Module) -> nn.Module:
    """Return the graft that is held, with what the parser has written on its layer; also where it is repeated."""
    if type(layer) is nn.Sequential:
        for name, child in list(layer.named_children()):
            if isinstance(child, Held):
                setattr(layer, name, child.module)
    if not isinstance(layer, Held):
        return layer
    for name in vars(layer).keys() - vars(nn.Module()).keys():
        setattr(layer.module, name, vars(layer)[name])
    return layer.module


def _is_made(layer: nn.Module, made: list[nn.Module]) -> bool:
    """Say whether a layer is what was made for its row: the module itself, or all of them in a row."""
    if len(made) == 1 and layer is made[0]:
        return True
    children = list(layer.children()) if type(layer) is nn.Sequential else []
    return len(children) == len(made) > 0 and all(map(operator.is_, children, made))


def _named(line: str, lowered: Lowered) -> str:
    """Return the build log's line with the graft's own name and arguments, where it is the line of a graft."""
    found = _LOG_INDEX.match(line)
    recipe = lowered.recipes.get(int(found.group(1))) if found else None
    if found is None or recipe is None or not recipe.made:
        return line
    index = int(found.group(1))
    start = f"{index:>3}{lowered.rows[index][0]!s:>20}{recipe.repeats:>3}{recipe.parameters:10.0f}  {recipe.name:<45}"
    return f"{start}{recipe.shown(recipe.given)!s:<30}"


@contextlib.contextmanager
def _default_activation_kept() -> Iterator[None]:
    """Put ``Conv.default_act`` back: older releases leave a YAML's activation behind, for every later model."""
    before = tasks.Conv.default_act
    try:
        yield
    finally:
        tasks.Conv.default_act = before
