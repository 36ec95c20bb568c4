"""Lowers a plan with grafted rows into rows that the stock parser understands.

One stock rule carries nearly every graft: ``CBLinear`` takes its output channels as written and is given its input
channels, one that joins several inputs those of the first. A row whose graft follows another stock module's rule
(``like``) is lowered into that module's row, so that whatever the installed release does for it (C3k2's rule for scales
m, l, x; the head's ``legacy`` flag) holds too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from ultralytics.nn import tasks

from detgraft.base.values import read_scalar
from detgraft.blocks.parts.features import FeatureSelect
from detgraft.catalog.registry import catalogue
from detgraft.catalog.spec import Filling, Graft
from detgraft.errors import ArgumentError, CatalogError, PlanError, WeightsError, nearest
from detgraft.plan.leading import hint_for, without_channels
from detgraft.plan.rows import PYRAMID_STRIDES, Plan, Row
from detgraft.plan.weights_files import IMAGENET, input_of, is_input
from detgraft.upstream.parser.carriers import RowKey
from detgraft.upstream.parser.shells import fill, shell_options
from detgraft.upstream.release.capabilities import stock_module, stock_names

CARRIER = "CBLinear"
MAX_CHANNELS = 65_536

Build = Callable[..., nn.Module]
"""Called with the arguments that the parser passes to the carrier; returns the graft."""

Channels = Callable[[Row], tuple[int, ...]]
"""Finds the input channels of a row by a probe of the rows before it."""


class Joined(list[int]):
    """The layers that feed a graft with several inputs and channels of its own.

    It counts as the index of the first wherever the stock rule for one input looks up channels, and as a list wherever
    the parser, and later the model, looks up features.
    """

    def __index__(self) -> int:
        return self[0]


@dataclass
class Recipe:
    """How one lowered row is built and shown.

    Args:
        name: The graft's name as written: the layer's ``type`` and its name in the build log.
        build: Makes the module.
        shown: The arguments for the build log, from what the parser passed.
        repeats: Number in the build log's column n.
        made: The module, once built; several where the parser itself repeats a stock module.
        given: What the parser passed for it.
        note: What a reader of the row should know, or an empty text.
    """

    name: str
    build: Build
    shown: Callable[[tuple[Any, ...]], list[Any]] = list
    repeats: int = 1
    made: list[nn.Module] = field(default_factory=list)
    given: tuple[Any, ...] = ()
    note: str = ""

    def make(self, args: tuple[Any, ...]) -> nn.Module:
        """Make the module from what the parser passes."""
        self.given = args
        self.made.append(self.build(*args))
        return self.made[-1]

    @property
    def parameters(self) -> int:
        """Number of parameters of what was made."""
        return sum(p.numel() for module in self.made for p in module.parameters())


@dataclass
class Lowered:
    """Rows for the stock parser and the recipe of each grafted layer.

    Args:
        rows: All lowered rows.
        split: Number of rows that belong to the backbone section.
        recipes: The recipe of each grafted layer, by layer index.
    """

    rows: list[list[Any]] = field(default_factory=list)
    split: int = 0
    recipes: dict[int, Recipe] = field(default_factory=dict)

    def carry(
        self, written_from: Any, carrier: str, args: list[Any], recipe: Recipe, repeats: int = 1, keys: int = 1
    ) -> None:
        """Append the lowered form of (one layer of) a grafted row; ``keys`` is how often its key stands at the end."""
        index = len(self.rows)
        self.rows.append([_plain(written_from), repeats, carrier, [*args, *[RowKey(index)] * keys]])
        self.recipes[index] = recipe


def lower(
    plan: Plan,
    channels_of: Channels,
    backbones: dict[int, nn.Module],
    *,
    placeholders: bool = False,
    stop: int | None = None,
) -> Lowered:
    """Lower a plan.

    Args:
        plan: The plan.
        channels_of: Finds the input channels of a row where the row's own rule needs them.
        backbones: The backbones and refiners built so far, by layer index; filled here, since their channels are known
            once built.
        placeholders: Lower ``same`` and ``concat`` rows into stock rows with the same channel rule; for finding
            channels.
        stop: Lower only the rows with an index below this one.

    Raises:
        ArgumentError: Arguments that do not fit the graft.
        PlanError: A row that cannot be built.
        WeightsError: A backbone's weights that are absent or do not fit.
    """
    lowered = Lowered()
    for row in plan.rows:
        if stop is not None and row.index >= stop:
            break
        entry = row.graft
        if entry is None:
            lowered.rows.append([_plain(row.written_from), row.repeats, row.module, list(row.args)])
        elif entry.filling is not None:
            _lower_shell(plan, row, entry, entry.filling, lowered)
        elif entry.channels == "pyramid":
            _lower_pyramid(plan, row, entry, lowered, channels_of, backbones)
        elif entry.channels == "refine":
            _lower_refiner(plan, row, entry, lowered, channels_of, backbones)
        elif entry.channels in ("scaled", "fixed"):
            _lower_block(plan, row, entry, lowered)
        elif entry.channels == "fuse":
            _lower_fusion(plan, row, entry, lowered, None if placeholders else channels_of)
        elif placeholders:
            if entry.channels == "same":
                _single_input(row, entry)
            module = "Concat" if entry.channels == "concat" else "nn.Identity"
            args = [1] if entry.channels == "concat" else []
            lowered.rows.append([_plain(row.written_from), 1, module, args])
        else:
            _lower_by_input(plan, row, entry, lowered, channels_of)
        if row.section == "backbone":
            lowered.split = len(lowered.rows)
    return lowered


def _plain(written_from: int | tuple[int, ...]) -> int | list[int]:
    return list(written_from) if isinstance(written_from, tuple) else written_from


def _literals(plan: Plan, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Read YAML texts as the stock parser does, without evaluating them: 'None', 'True', numbers and 'nc'."""
    words = {"None": None, "True": True, "False": False, "nc": plan.nc}

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return words[value] if value in words else read_scalar(value, {})

    return tuple(map(read, args))


def _single_input(row: Row, entry: Graft) -> None:
    if isinstance(row.written_from, tuple):
        raise PlanError(f"'{entry.name}' takes one input, found 'from' {list(row.written_from)}", row.location)


def _output_channels(plan: Plan, row: Row, entry: Graft, args: tuple[Any, ...]) -> int:
    if not args or isinstance(args[0], bool) or not isinstance(args[0], int):
        found = repr(args[0]) if args else "none"
        raise ArgumentError(
            f"the first argument of '{entry.name}' must be its output channels (a whole number), found {found}",
            row.location,
        )
    written: int = args[0]
    scales = entry.channels in ("scaled", "fuse") and written != plan.nc
    channels = plan.scaling.channels(written) if scales else written
    if not 1 <= channels <= MAX_CHANNELS or written < 1:
        raise ArgumentError(
            f"'{entry.name}' needs output channels from 1 to {MAX_CHANNELS}, found {written}"
            + (f" ({channels} at width {plan.scaling.width:g})" if channels != written else ""),
            row.location,
        )
    return channels


def _lower_block(plan: Plan, row: Row, entry: Graft, lowered: Lowered) -> None:
    """A block with given output channels: the CBLinear rule, or the rule of the module that it is like."""
    _single_input(row, entry)
    args = _literals(plan, row.args)
    channels = _output_channels(plan, row, entry, args)
    bound = entry.bind(args[1:], {}, row.location)
    bound |= _activation(plan, entry)
    target = entry.load()
    repeats = plan.scaling.repeats(row.repeats)
    if repeats > 1 and entry.repeats is None:
        raise PlanError(f"'{entry.name}' cannot be repeated, found repeats {row.repeats}", row.location)
    if _follows(entry, row) and (entry.repeats == "inside" or repeats == 1):
        defaults = {p.name: p.default for p in entry.parameters()}
        positional = list((defaults | bound).values())

        def build_like(*given: Any) -> nn.Module:
            expected = len(positional) + (3 if entry.repeats == "inside" else 2)
            if len(given) < expected:
                raise CatalogError(
                    f"'{entry.name}' takes the number of repeats inside, which the rule of {entry.like} does not pass",
                    row.location,
                )
            return _made(row, entry, lambda: target(*given, **entry.preset))

        unwritten = len(positional) - len(args[1:])  # defaults are passed on, but the log shows what was written
        recipe = Recipe(
            row.module,
            build_like,
            lambda given: list(given[: len(given) - unwritten]),
            repeats=repeats,
        )
        lowered.carry(row.written_from, str(entry.like), [args[0], *positional], recipe, row.repeats)
        return

    def build(c1: int, c2: int) -> nn.Module:
        if entry.repeats == "inside":
            return _made(row, entry, lambda: target(c1, c2, repeats, **entry.preset, **bound))
        first = _made(row, entry, lambda: target(c1, c2, **entry.preset, **bound))
        rest = [_made(row, entry, lambda: target(c2, c2, **entry.preset, **_once(bound))) for _ in range(repeats - 1)]
        return nn.Sequential(first, *rest) if rest else first

    recipe = Recipe(row.module, build, lambda given: [*given, *args[1:]], repeats)
    lowered.carry(row.written_from, CARRIER, [channels], recipe)


def _lower_shell(plan: Plan, row: Row, entry: Graft, filling: Filling, lowered: Lowered) -> None:
    """A stock shell with a block inside: the shell's own row, as it would be without the block."""
    _single_input(row, entry)
    _output_channels(plan, row, entry, _literals(plan, row.args))
    block = catalogue.get(filling.block, row.location)
    if stock_module(filling.shell) is None:
        raise CatalogError(f"this Ultralytics has no {filling.shell}, which '{row.module}' is made of", row.location)
    options = block.bind((), filling.options, row.location) | _activation(plan, block)

    def build(*given: Any) -> nn.Module:
        return _made(row, entry, lambda: fill(filling, block, options, given))

    recipe = Recipe(row.module, build, repeats=plan.scaling.repeats(row.repeats))
    # Twice: the rule for scales m, l and x sets the first option of C3k2, also where a row has none.
    lowered.carry(row.written_from, filling.shell, _shell_args(plan, row, entry, filling), recipe, row.repeats, keys=2)


def _shell_args(plan: Plan, row: Row, entry: Graft, filling: Filling) -> list[Any]:
    """The arguments of the shell's own row, up to the last one that is written."""
    if not entry.target:
        return list(row.args)
    channels, *written = _literals(plan, row.args)
    bound = entry.bind(tuple(written), {}, row.location)
    options = shell_options(filling.shell)
    last = max((position for position, name in enumerate(options) if name in bound), default=-1)
    return [channels, *(bound.get(name, default) for name, default in list(options.items())[: last + 1])]


def _follows(entry: Graft, row: Row) -> bool:
    """Say whether a row follows a stock module's rule; a release may lack a module that detgraft's own entries name."""
    if entry.like is None or stock_module(entry.like) is not None:
        return entry.like is not None
    if entry.origin != "detgraft":
        raise CatalogError(
            f"'{entry.name}' is registered with like='{entry.like}', and this Ultralytics has no module of that name."
            f"{nearest(entry.like, stock_names())}",
            row.location,
        )
    return False


def _lower_fusion(plan: Plan, row: Row, entry: Graft, lowered: Lowered, channels_of: Channels | None) -> None:
    """A block with several inputs and output channels of its own; without ``channels_of`` for finding channels only."""
    if not isinstance(row.written_from, tuple) or len(row.written_from) < 2:
        raise PlanError(f"'{entry.name}' joins two or more inputs, found 'from' {row.written_from}", row.location)
    repeats = plan.scaling.repeats(row.repeats)
    if repeats > 1 and entry.repeats != "inside":
        raise PlanError(f"'{entry.name}' cannot be repeated, found repeats {row.repeats}", row.location)
    args = _literals(plan, row.args)
    channels = _output_channels(plan, row, entry, args)
    bound = entry.bind(args[1:], {}, row.location) | _activation(plan, entry)
    target = entry.load()
    inputs = [] if channels_of is None else list(channels_of(row))
    leading = [channels, repeats] if entry.repeats == "inside" else [channels]

    def join(*_given: Any) -> nn.Module:
        return _made(row, entry, lambda: target(list(inputs), *leading, **entry.preset, **bound))

    recipe = Recipe(row.module, join, lambda _given: [list(inputs), channels, *args[1:]], repeats)
    lowered.carry(Joined(row.written_from), CARRIER, [channels], recipe)


def _once(bound: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the second and later copies of a stacked block: only the first one changes the resolution."""
    return {name: 1 if name in ("s", "stride") else value for name, value in bound.items()}


def _lower_by_input(plan: Plan, row: Row, entry: Graft, lowered: Lowered, channels_of: Channels) -> None:
    """A block whose output channels follow from its inputs: ``same`` and ``concat``."""
    inputs = channels_of(row)
    args, note = without_channels(entry, _literals(plan, row.args), sum(inputs), plan.scaling, row)
    bound = entry.bind(args, {}, row.location) | _activation(plan, entry)
    target = entry.load()
    if entry.channels == "same":
        _single_input(row, entry)
        repeats = plan.scaling.repeats(row.repeats)
        if repeats > 1 and entry.repeats is None:
            raise PlanError(f"'{entry.name}' cannot be repeated, found repeats {row.repeats}", row.location)
        channels = inputs[0]

        def build(c1: int, _c2: int) -> nn.Module:
            copies = [_made(row, entry, lambda: target(c1, **entry.preset, **bound)) for _ in range(repeats)]
            return copies[0] if repeats == 1 else nn.Sequential(*copies)

        recipe = Recipe(row.module, build, lambda given: [given[0], *args], repeats, note=note)
        lowered.carry(row.written_from, CARRIER, [channels], recipe)
        return
    if not isinstance(row.written_from, tuple) or len(inputs) < 2:
        raise PlanError(f"'{entry.name}' joins two or more inputs, found 'from' {row.written_from}", row.location)

    def join(*_given: Any) -> nn.Module:
        return _made(row, entry, lambda: target(list(inputs), **entry.preset, **bound))

    recipe = Recipe(row.module, join, lambda _given: [list(inputs), *args], note=note)
    lowered.carry(list(row.written_from), "Concat", [1], recipe)


def _made(row: Row, entry: Graft, make: Callable[[], nn.Module]) -> nn.Module:
    """Build a graft; a refusal by its constructor becomes an error with the row's location."""
    try:
        return make()
    except ArgumentError as error:
        raise ArgumentError(f"{error}.{hint_for(entry)}" if hint_for(entry) else str(error), row.location) from error
    except CatalogError as error:
        raise CatalogError(str(error), row.location) from error
    except (TypeError, ValueError, RuntimeError, AssertionError, ZeroDivisionError, OverflowError) as error:
        raise ArgumentError(
            f"'{entry.name}' cannot be built with the arguments {list(row.args)}: {error}", row.location
        ) from error


def _activation(plan: Plan, entry: Graft) -> dict[str, Any]:
    """Hand the YAML's ``activation:`` to grafts that have a say in it, as stock modules follow it too."""
    if plan.activation is None or not any(p.name == "activation" for p in entry.parameters()):
        return {}
    return {"activation": plan.activation}


def _build_backbone(plan: Plan, row: Row, entry: Graft, c1: int) -> nn.Module:
    width, weights = pyramid_arguments(plan, row, entry)
    bound = entry.bind((), {} if width is None else {"width": width}, row.location)
    target = entry.load()
    # By name, since what the graft's name presets (a size) may come first in the signature.
    first = next(name for name in inspect.signature(target).parameters if name not in entry.preset)
    backbone: Any = _made(row, entry, lambda: target(**{first: c1}, **entry.preset, **bound))
    reductions = tuple(backbone.reductions)
    missing = [stride for stride in PYRAMID_STRIDES[1:] if stride not in reductions]
    if missing or len(backbone.channels) != len(reductions):
        raise CatalogError(
            f"'{entry.name}' gives features at strides {', '.join(map(str, reductions))}; "
            "a detector needs 8, 16 and 32",
            row.location,
        )
    if hasattr(backbone, "set_input_scale"):
        _begin(backbone, entry, row, weights)
    elif weights is not None or input_of(row.args) is not None:
        _begin_own(backbone, entry, row, weights)
    built: nn.Module = backbone
    return built


def _begin(backbone: Any, entry: Graft, row: Row, weights: str | None) -> None:
    """Give one of detgraft's backbones its weights, and the scale of pixels that they expect."""
    from detgraft.weights.backbone_files import load_backbone_weights  # these import timm
    from detgraft.weights.hub import load_default_weights
    from detgraft.weights.input_scale import fit_input

    try:
        if weights == IMAGENET:
            tasks.LOGGER.info(load_default_weights(backbone))
        elif weights is not None:
            load_backbone_weights(backbone, weights)
        said = fit_input(backbone, weights, input_of(row.args)) if entry.takes_weights else None
    except (ArgumentError, WeightsError) as error:
        raise type(error)(str(error), row.location) from error
    if said is not None:
        tasks.LOGGER.info(said)


def _begin_own(backbone: nn.Module, entry: Graft, row: Row, weights: str | None) -> None:
    """Give somebody's own backbone the weights of a file whose tensors are named as its own."""
    from detgraft.weights.backbone_files import load_own_weights

    if input_of(row.args) is not None:
        raise ArgumentError(f"'{entry.name}' takes no input=: it sees pixels of 0 to 1 as they are", row.location)
    if weights == IMAGENET:
        raise WeightsError(f"'{entry.name}' has no weights of timm; name a file with weights=FILE", row.location)
    try:
        load_own_weights(backbone, entry.name, str(weights))
    except WeightsError as error:
        raise WeightsError(str(error), row.location) from error


def _lower_pyramid(
    plan: Plan,
    row: Row,
    entry: Graft,
    lowered: Lowered,
    channels_of: Channels,
    backbones: dict[int, nn.Module],
) -> None:
    """A backbone: the list row, then one selector per stride, so that module index and layer index agree."""
    if row.index not in backbones:
        backbones[row.index] = _build_backbone(plan, row, entry, channels_of(row)[0])
    backbone: Any = backbones[row.index]
    channels, reductions = tuple(backbone.channels), tuple(backbone.reductions)
    first = row.written_from[0] if isinstance(row.written_from, tuple) else row.written_from
    recipe = Recipe(row.module, lambda *_given: backbone, lambda _given: list(row.args))
    lowered.carry(first, CARRIER, [channels[-1]], recipe)
    for stride in PYRAMID_STRIDES:
        # A backbone may lack stride 4; its slot then repeats the next feature, and the plan refuses to read it.
        position = reductions.index(stride) if stride in reductions else 0
        lowered.carry(row.index, CARRIER, [channels[position]], _selector(position, stride))
        if stride not in reductions:
            _refuse_readers(plan, row, row.index + 1, stride)


def _lower_refiner(
    plan: Plan,
    row: Row,
    entry: Graft,
    lowered: Lowered,
    channels_of: Channels,
    built: dict[int, nn.Module],
) -> None:
    """A list of features to a list of features: the list row, then one selector per feature."""
    args = _literals(plan, row.args)
    if row.index not in built:
        inputs = list(channels_of(row))
        bound = entry.bind(args, {}, row.location) | _activation(plan, entry)
        target = entry.load()
        built[row.index] = _made(row, entry, lambda: target(inputs, **entry.preset, **bound))
        found = getattr(built[row.index], "channels", None)
        if not isinstance(found, (list, tuple)) or len(found) != len(inputs):
            raise CatalogError(
                f"'{entry.name}' must say its output channels in the attribute 'channels', one number for each of its "
                f"{len(inputs)} features; found {found!r:.80}",
                row.location,
            )
    refiner: Any = built[row.index]
    shown = Recipe(row.module, lambda *_given: refiner, lambda _given: list(args))
    lowered.carry(row.written_from, "Concat", [1], shown)
    for position, channels in enumerate(refiner.channels):
        lowered.carry(row.index, CARRIER, [channels], _selector(position, None))


def _selector(position: int, stride: int | None) -> Recipe:
    shown = [f"stride {stride}" if stride is not None else f"feature {position}"]
    return Recipe("Feature", lambda *_given: FeatureSelect(position, stride), lambda _given: shown)


def _refuse_readers(plan: Plan, backbone: Row, layer: int, stride: int) -> None:
    for reader in plan.rows:
        if layer in reader.sources:
            raise PlanError(
                f"refers to layer {layer}, the stride-{stride} feature, which '{backbone.module}' does not have",
                reader.location,
            )


def names_weights(plan: Plan, row: Row) -> bool:
    """Say whether a row is a backbone that begins with a file's weights, or timm's."""
    entry = row.graft
    return entry is not None and entry.takes_weights and pyramid_arguments(plan, row, entry)[1] is not None


def pyramid_arguments(plan: Plan, row: Row, entry: Graft) -> tuple[float | None, str | None]:
    """Read a backbone row's arguments: a number or 'auto' is the width factor, a text is a weights file.

    A text that begins with ``input=`` is left to `detgraft.plan.weights_files.input_of`.

    Args:
        plan: The plan, for its scale.
        row: The backbone's row.
        entry: Its graft.

    Raises:
        ArgumentError: Anything else, or a factor out of range.
    """
    width: float | None = None
    weights: str | None = None
    for value in _literals(plan, row.args):
        if value in (None, "") or (entry.takes_weights and is_input(value)):
            continue
        if value == "auto":
            value = plan.scaling.width
        if isinstance(value, (int, float)) and not isinstance(value, bool) and width is None:
            width = float(value)
        elif isinstance(value, str) and weights is None and entry.takes_weights:
            weights = value
        else:
            raise ArgumentError(
                f"'{entry.name}' takes a width factor (a number or 'auto') and a weights file (a text), "
                f"found {list(row.args)!r:.120}",
                row.location,
            )
    if width is not None and not 0 < width <= 64:
        raise ArgumentError(f"the width factor of '{entry.name}' must lie in (0, 64], found {width:g}", row.location)
    return width, weights
