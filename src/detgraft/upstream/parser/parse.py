"""Builds the layers of a model description with the real Ultralytics parser.

The parser's own code runs with its own names, of which a few are bound to stand-ins for this one build
(``types.FunctionType`` with a copy of the globals), so Ultralytics' own state is untouched.
"""

from __future__ import annotations

import contextlib
import re
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import nn
from ultralytics.nn import tasks

from detgraft.errors import DetgraftError, Location, PlanError, UpstreamError
from detgraft.plan.rows import Plan, Row
from detgraft.upstream.parser.carriers import RowKey, make_blank, make_stand_in
from detgraft.upstream.parser.lower import CARRIER, Lowered, lower
from detgraft.upstream.parser.names import is_graft, is_pyramid
from detgraft.upstream.release.capabilities import ULTRALYTICS_VERSION

_LOG_INDEX = re.compile(r"^\s*(\d+)\s")


def parse_grafted(
    original: Any, plan: Plan, mapping: dict[str, Any], ch: int, verbose: bool
) -> tuple[nn.Sequential, list[int]]:
    """Build a grafted model description.

    Args:
        original: The real ``parse_model``.
        plan: The description's plan.
        mapping: The model description with grafted rows.
        ch: Image channels.
        verbose: Whether to print the build log.

    Returns:
        The layers and the indices of the layers whose output is kept, as the real function returns them.

    Raises:
        DetgraftError: The description cannot be built.
    """
    return _Build(original, mapping, plan, ch).run(verbose)


def parse_stock(
    original: Any, plan_of: Callable[[], Plan], mapping: dict[str, Any], ch: int, verbose: bool
) -> tuple[nn.Sequential, list[int]]:
    """Build a description without grafts: the real parser with its own names; only its failures are put into words.

    Args:
        original: The real ``parse_model``.
        plan_of: Makes the description's plan; called after a failure only, for its locations.
        mapping: The model description.
        ch: Image channels.
        verbose: Whether to print the build log.

    Raises:
        DetgraftError: The description cannot be built; names the row.
    """
    try:
        built: tuple[nn.Sequential, list[int]] = original(mapping, ch, verbose)
        return built
    except DetgraftError:
        raise
    except Exception as error:
        raise explain(original, plan_of(), error) from error


def declared_channels(original: Any, plan: Plan, mapping: dict[str, Any], ch: int) -> list[Any]:
    """Return what the real parser takes for the output channels of every layer but the head.

    Args:
        original: The real ``parse_model``.
        plan: The description's plan.
        mapping: A model description, grafted or not.
        ch: Image channels.

    Returns:
        Per layer a number, or a list of numbers for a layer with several outputs.
    """
    return _Build(original, mapping, plan, ch).declared()


def explain(original: Any, plan: Plan, error: Exception) -> DetgraftError:
    """Say which row the real parser stumbled over, read from its own loop variable.

    Args:
        original: The real ``parse_model``.
        plan: The plan that was parsed.
        error: What it raised, with its traceback.
    """
    index, traceback = None, error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code is original.__code__:
            index = traceback.tb_frame.f_locals.get("i")
        traceback = traceback.tb_next
    text = f"{type(error).__name__}: {error}".strip()[:300]
    if isinstance(index, int) and index < sum(row.span for row in plan.rows):
        row = plan.row_of_layer(index)
        return PlanError(f"'{row.module}' with arguments {list(row.args)!r:.200} cannot be built: {text}", row.location)
    return UpstreamError(
        f"the parser of ultralytics {ULTRALYTICS_VERSION} refused the model: {text}", Location(plan.source)
    )


class _Build:
    """One run of the real parser over one plan."""

    def __init__(self, original: Any, mapping: dict[str, Any], plan: Plan, ch: int) -> None:
        self.original = original
        self.mapping = mapping
        self.plan = plan
        self.ch = ch
        self.backbones: dict[int, nn.Module] = {}
        self._probed: dict[int, tuple[int, ...]] | None = None

    def run(self, verbose: bool) -> tuple[nn.Sequential, list[int]]:
        lowered = lower(self.plan, self.channels_of, self.backbones)

        def construct(key: RowKey, args: tuple[Any, ...]) -> nn.Module:
            recipe = lowered.recipes[int(key)]
            recipe.module, recipe.given = recipe.build(*args), args
            return recipe.module

        names: dict[str, Any] = {
            name: make_stand_in(vars(tasks)[name], construct) for name in (CARRIER, *lowered.stand_ins)
        }
        names["LOGGER"] = _BuildLog(tasks.LOGGER, lowered)
        with _default_activation_kept():
            layers, save = self._call(lowered, names, verbose)
        for index, recipe in lowered.recipes.items():
            if index >= len(layers) or layers[index] is not recipe.module:
                raise UpstreamError(
                    f"the parser of ultralytics {ULTRALYTICS_VERSION} did not build layer {index} ({recipe.name}) as "
                    "detgraft expects; docs/compatibility.md lists the releases that were tried"
                )
            setattr(layers[index], "type", recipe.name)  # noqa: B010 - nn.Module declares `type` as a method
            # Profiling reads this count. Old releases write it on the row's class, which is a stand-in here.
            setattr(layers[index], "np", sum(p.numel() for p in layers[index].parameters()))  # noqa: B010
        return layers, save

    def declared(self) -> list[Any]:
        """Output channels of every layer but the head, as the parser hands them to the layers that read them."""
        lowered = lower(self.plan, self.channels_of, self.backbones)
        count = len(lowered.rows)
        seen = self._blank_run(lowered, range(count - 1))
        return [seen[index] for index in range(count - 1)]

    def channels_of(self, row: Row) -> tuple[int, ...]:
        """Find the input channels of a row, by running the parser's channel arithmetic over the rows before it."""
        if row.sources == (-1,):
            return (self.ch,)
        if is_pyramid(row.module):
            return self._probe([row], stop=row.index)[row.index]
        if self._probed is None:
            rows = [r for r in self.plan.rows if is_graft(r.module) and not is_pyramid(r.module)]
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

        names: dict[str, Any] = {
            name: make_blank(value)
            for name, value in vars(tasks).items()
            if isinstance(value, type) and issubclass(value, nn.Module)
        }
        names[CARRIER] = make_stand_in(names[CARRIER], capture)
        with _default_activation_kept():
            self._call(lowered, names, verbose=False)
        return seen

    def _call(self, lowered: Lowered, names: dict[str, Any], verbose: bool) -> tuple[nn.Sequential, list[int]]:
        function = types.FunctionType(
            self.original.__code__,
            {**self.original.__globals__, **names},
            self.original.__name__,
            self.original.__defaults__,
            self.original.__closure__,
        )
        mapping = {**self.mapping, "backbone": lowered.rows[: lowered.split], "head": lowered.rows[lowered.split :]}
        try:
            layers, save = function(mapping, self.ch, verbose)
        except DetgraftError:
            raise
        except Exception as error:
            raise explain(self.original, self.plan, error) from error
        return layers, save


class _BuildLog:
    """Ultralytics' logger, except that the line of a grafted layer shows the graft's own name and arguments."""

    def __init__(self, logger: Any, lowered: Lowered) -> None:
        self._logger = logger
        self._lowered = lowered

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)

    def info(self, message: object, *args: Any, **kwargs: Any) -> None:
        found = _LOG_INDEX.match(str(message))
        recipe = self._lowered.recipes.get(int(found.group(1))) if found else None
        if found and recipe is not None and recipe.module is not None:
            index = int(found.group(1))
            written = self._lowered.rows[index][0]
            count = sum(p.numel() for p in recipe.module.parameters())
            line = f"{index:>3}{written!s:>20}{recipe.repeats:>3}{count:10.0f}  {recipe.name:<45}"
            message = f"{line}{recipe.shown(recipe.given)!s:<30}"
        self._logger.info(message, *args, **kwargs)


@contextlib.contextmanager
def _default_activation_kept() -> Iterator[None]:
    """Put ``Conv.default_act`` back: some releases leave a YAML's activation behind in the class."""
    before = tasks.Conv.default_act
    try:
        yield
    finally:
        tasks.Conv.default_act = before
