"""Turns a graft expression into a model description: base YAML in, composed rows out."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from ultralytics.nn import tasks

from detgraft._version import __version__
from detgraft.catalog.spec import Graft
from detgraft.errors import Location, PlanError
from detgraft.plan import meanings
from detgraft.plan.compose import compose, sections
from detgraft.plan.document import SECTIONS
from detgraft.plan.expression import Expression, is_expression, parse_expression
from detgraft.plan.losses import KEY as LOSSES
from detgraft.plan.losses import added, without_losses
from detgraft.plan.rows import Plan
from detgraft.plan.shells import entry_of
from detgraft.plan.structure import Base, apply, followed, in_order, is_structural
from detgraft.upstream.describe.description import Description, handed
from detgraft.upstream.describe.load import load_yaml
from detgraft.upstream.describe.meant import meant, refuse_no_graft
from detgraft.upstream.describe.plans import plan_of
from detgraft.upstream.describe.resolve import locate
from detgraft.upstream.describe.strides import strides_of
from detgraft.upstream.release.capabilities import stock_module

RECORD = meanings.COMPOSED
"""Key of a composed description under which it says how it came about."""


def read_description(text: str, original: Callable[[str], dict[str, Any]] | None = None) -> Description:
    """Read a model YAML, or compose an expression; what is being handed on under that name is not read again.

    Args:
        text: A model YAML's path or name, or an expression, with or without ``.yaml`` at its end.
        original: The real ``yaml_model_load``; the one in force by default.

    Raises:
        DetgraftError: No such file, no model description, or grafts that do not fit.
    """
    known = handed(text)
    if known is not None:
        return known
    return compose_expression(text) if is_expression(text) else Description.of(load_yaml(text, original), text)


def compose_mapping(text: str) -> dict[str, Any]:
    """Compose the model description of a graft expression, see :func:`compose_expression`.

    Returns:
        A mapping as Ultralytics reads it from a YAML, with ``scale`` and ``yaml_file``.
    """
    return compose_expression(text).copied()


def compose_expression(text: str) -> Description:
    """Compose the model description of a graft expression.

    Args:
        text: The expression, with or without ``.yaml`` at its end.

    Raises:
        PlanError: Grammar, unknown base, or grafts that do not fit.
        CatalogError: Unknown graft.
    """
    expression = parse_expression(text)
    where = Location(str(expression))
    rows_only = without_losses(expression)
    if locate(expression.base_yaml) is None:
        grafts = "".join(f"+{term}" for term in expression.grafts)
        raise PlanError(f"there is no base model '{expression.base}'.{meant(expression.base, rest=grafts)}", where)
    for term in rows_only.grafts:
        refuse_no_graft(term.name, where)
    entries = [entry_of(term, where) for term in rows_only.grafts]
    base = load_yaml(expression.base_yaml)
    if not entries:
        return _with_losses(expression, base, plan_of(base))
    skeleton = _skeleton(base, rows_only, entries)
    rest = [(term, entry) for term, entry in zip(rows_only.grafts, entries, strict=True) if not is_structural(entry)]
    strides = strides_of(skeleton.mapping, str(expression)) if rest else {}
    found = compose(
        Expression(skeleton.name, tuple(term for term, _ in rest)),
        plan_of(skeleton.mapping),
        strides,
        [entry for _, entry in rest],
        stock_parameters,
    )
    notes = [*skeleton.notes, *found.notes]
    for note in notes:
        tasks.LOGGER.info(f"{expression}: {note}")
    record = {
        "expression": str(expression),
        "base": expression.base_yaml,
        "origins": found.origins if skeleton.origins is None else followed(skeleton.origins, found.origins),
        "notes": notes,
    }
    if skeleton.levels != skeleton.base_levels:
        record |= {"levels": list(skeleton.levels), "base_levels": list(skeleton.base_levels)}
    rows = {**sections(found), meanings.RECORD: found.meanings}
    mapping = {**base, **rows, "yaml_file": f"{expression}.yaml", meanings.COMPOSED: record}
    asked = added(base, expression)
    return Description.of({**mapping, LOSSES: asked} if asked else mapping, base=expression.base_yaml)


def _with_losses(expression: Expression, base: dict[str, Any], plan: Plan) -> Description:
    """Describe a base under another loss: its rows stay as they are."""
    record = {
        "expression": str(expression),
        "base": expression.base_yaml,
        "origins": list(range(sum(row.span for row in plan.rows))),
        "notes": [],
    }
    mapping = {**base, "yaml_file": f"{expression}.yaml", meanings.COMPOSED: record, LOSSES: added(base, expression)}
    return Description.of(mapping, base=expression.base_yaml)


@dataclass(frozen=True)
class _Skeleton:
    """A base after its structural terms.

    Args:
        name: What it is called in messages.
        mapping: Its description.
        origins: The layer of the stock base that each of its layers continues; None where no term changed anything.
        notes: What the terms said.
        levels: Strides of the features that the head reads.
        base_levels: The same of the stock base.
    """

    name: str
    mapping: dict[str, Any]
    origins: list[int | None] | None = None
    notes: tuple[str, ...] = ()
    levels: tuple[int, ...] = ()
    base_levels: tuple[int, ...] = ()


def _skeleton(base: dict[str, Any], expression: Expression, entries: Sequence[Graft]) -> _Skeleton:
    """Apply an expression's structural terms; each gives rows that are planned and run as a base of their own."""
    found = _Skeleton(expression.base, base)
    try:
        terms = in_order(zip(expression.grafts, entries, strict=True))
    except PlanError as error:
        raise PlanError(str(error), Location(str(expression))) from error
    for term, entry in terms:
        strides = strides_of(found.mapping, str(expression))
        neck_stays = all(other.site != "neck" for _, other in terms)
        changed = apply(term, entry, Base(found.name, str(term), plan_of(found.mapping), strides, neck_stays))
        name = f"{found.name}+{term}"
        rows = {**sections(changed), meanings.RECORD: changed.meanings, "yaml_file": f"{name}.yaml"}
        origins = changed.origins if found.origins is None else followed(found.origins, changed.origins)
        before = found.base_levels or _levels(found.mapping, strides)
        found = _Skeleton(name, {**found.mapping, **rows}, origins, (*found.notes, *changed.notes), base_levels=before)
    if found.origins is None:
        return found
    return replace(found, levels=_levels(found.mapping, strides_of(found.mapping, str(expression))))


def _levels(mapping: dict[str, Any], strides: Mapping[int, int]) -> tuple[int, ...]:
    """Strides of the features that a description's head reads; 0 for what is no single feature."""
    return tuple(strides.get(source, 0) for source in plan_of(mapping).rows[-1].sources)


@functools.lru_cache(maxsize=256)
def stock_parameters(name: str) -> tuple[str, ...]:
    """Return the names of a stock module's row arguments after the output channels, in order."""
    module = stock_module(name)
    if module is None:
        return ()
    names = [p for p in inspect.signature(module.__init__).parameters if p not in ("self", "c1", "c2")]
    return tuple(names[1:] if names[:1] == ["n"] else names)


def to_yaml(mapping: Mapping[str, Any]) -> str:
    """Write a model description as the YAML that builds the same model wherever it is saved.

    The scale in force comes first among the scales, since a file's name need not carry its letter. What is only a
    record (how the expression was composed) is left out: it would be wrong once somebody edits the rows. Weights still
    follow the layers then, by comparing rows.

    Args:
        mapping: A description as Ultralytics passes it around.

    Raises:
        PlanError: The description is malformed.
    """
    plan = plan_of(dict(mapping))
    record = mapping.get(meanings.COMPOSED)
    name, notes = Path(str(mapping.get("yaml_file") or "model")).name, []
    if isinstance(record, dict):
        name, notes = record["expression"], record.get("notes", [])
    lines = [f"# {_printable(line)}" for line in (name, *notes)]
    lines += [f"# Written by detgraft {__version__}. Layer numbers stand behind the rows.", ""]
    for key, value in mapping.items():
        if key == "scales" and isinstance(value, dict):
            lines.append(
                "scales: # [depth, width, max_channels]; the first is in force unless the file's name says one"
            )
            first = plan.scaling.name
            for letter in sorted(value, key=lambda letter: letter != first):
                lines.append(f"  {letter}: {_flow(list(value[letter]))}")
        elif key not in (*SECTIONS, "scale", "yaml_file", meanings.COMPOSED, meanings.RECORD):
            lines.append(f"{key}: {_flow(value)}")
    for section in SECTIONS:
        lines += ["", f"{section}:", "  # [from, repeats, module, args]"]
        for row in (row for row in plan.rows if row.section == section):
            source = list(row.written_from) if isinstance(row.written_from, tuple) else row.written_from
            text = _flow([source, row.repeats, row.module, list(row.args)])
            what = "strides 4, 8, 16, 32" if len(row.sources) == 1 else "its features"
            last = f"-{row.index + row.span - 1}: {what} are layers {row.index + 1} to {row.index + row.span - 1}"
            lines.append(f"  - {text} # {row.index}{last if row.span > 1 else ''}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=sys.maxsize, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
