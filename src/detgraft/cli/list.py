"""``detgraft list``: the catalogue by family."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from rich.console import Console
from rich.table import Table

from detgraft.catalog.losses import Loss, list_losses, losses
from detgraft.catalog.parameters import PARAMETERS
from detgraft.catalog.registry import FAMILIES, catalogue, families
from detgraft.catalog.search import search
from detgraft.catalog.spec import Graft
from detgraft.errors import CatalogError, nearest
from detgraft.plan.typed import as_typed

LOSSES = "losses"
"""The pattern for all losses and nothing else."""

WIDE = 140
"""Characters in a line from which on an entry takes one line with everything."""

INDENT = " " * 4


def command(pattern: str, *, as_json: bool) -> None:
    """Print the grafts and the losses whose name matches a pattern; ``losses`` stands for all losses.

    Raises:
        CatalogError: Nothing matches.
    """
    entries = search(as_typed(pattern)) if pattern != LOSSES else []
    found = list_losses("*" if pattern == LOSSES else pattern)
    if not entries and not found:
        known = [*catalogue.names(), *losses.names(), *FAMILIES]
        raise CatalogError(
            f"no graft matches '{pattern}'.{nearest(pattern.strip('*'), known)} `detgraft list` shows all of them; "
            f"families are {', '.join(FAMILIES)}"
        )
    if as_json:
        grafts = [_data(entry, family) for family, members in families(entries) for entry in members]
        # Everything is the blocks' catalogue, as it was before there were losses; theirs is `list losses`.
        data = [*grafts, *map(_loss_data, found if pattern != "*" else ())]
        print(json.dumps(data, indent=2, ensure_ascii=False))
        return
    console = Console()
    wide = console.width >= WIDE
    if entries:
        _print_grafts(entries, console, wide)
    if found:
        _print_losses(found, console, wide)
    more = "" if wide else "other names, channel rules and papers: --json, or a wider window; "
    console.print(f"parameters at 256 channels (of a backbone: all); {more}docs/catalogue.md", highlight=False)


def _print_grafts(entries: list[Graft], console: Console, wide: bool) -> None:
    for family, members in families(entries):
        console.print(f"[bold]{family}[/bold]", highlight=False)
        if wide:
            console.print(_wide(members))
        else:
            _narrow(console, members)
        console.print()
    console.print(f"{len(entries)} grafts", highlight=False)


def _print_losses(entries: list[Loss], console: Console, wide: bool) -> None:
    table = Table(title=f"{len(entries)} losses")
    table.add_column("name", no_wrap=True)
    table.add_column("loss of", no_wrap=True)
    for heading in ("what it is", "options", *(("also", "paper", "licence") if wide else ())):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        more = (", ".join(entry.aliases), entry.provenance.paper, entry.provenance.licence)
        options = ", ".join(f"{name}={option.default}" for name, option in entry.options.items())
        table.add_row(entry.name, entry.kind, entry.summary, options, *(more if wide else ()))
    console.print(table)


def _loss_data(entry: Loss) -> dict[str, Any]:
    return {
        "name": entry.name,
        "aliases": list(entry.aliases),
        "loss": entry.kind,
        "options": {name: option.default for name, option in entry.all_options().items()},
        "rotated": bool(entry.rotated),
        "summary": entry.summary,
        "origin": entry.origin,
        "paper": entry.provenance.paper,
        "source": entry.provenance.source,
        "licence": entry.provenance.licence,
    }


def _narrow(console: Console, members: list[Graft]) -> None:
    """Two lines for an entry: what one looks for, and below it what it is."""
    for entry in members:
        line = f"  {entry.name:<26}{entry.site or '-':<16}{short(parameters_of(entry)):>7}  {_licence(entry)}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
        text = textwrap.fill(entry.summary, console.width, initial_indent=INDENT, subsequent_indent=INDENT)
        console.print(text, style="dim", highlight=False, markup=False)


def _wide(members: list[Graft]) -> Table:
    table = Table(box=None, padding=(0, 1), show_header=True)
    for heading in ("name", "site", "parameters", "licence", "what it is", "also", "channels", "paper"):
        right = heading == "parameters"
        table.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=heading == "name")
    for entry in members:
        table.add_row(
            entry.name,
            entry.site,
            short(parameters_of(entry)),
            _licence(entry),
            entry.summary,
            ", ".join(entry.aliases),
            entry.channels,
            entry.provenance.paper,
        )
    return table


def parameters_of(entry: Graft) -> int | None:
    """Return the parameters at 256 channels, or None for a block that is not of detgraft's own catalogue."""
    return PARAMETERS.get(entry.name) if entry.origin == "detgraft" else None


def short(count: int | None) -> str:
    """Return a number of parameters in at most six characters."""
    if count is None:
        return "-"
    for unit, letter in ((10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.{1 if count < 100 * unit else 0}f} {letter}"
    return str(count)


def _licence(entry: Graft) -> str:
    """The licence of the official code; that of the weights, too, where it is another."""
    code, weights = entry.provenance.licence.partition(" (")[0], entry.provenance.weights_licence
    return f"{code}; weights {weights}" if weights and weights != code else code or "-"


def _data(entry: Graft, family: str) -> dict[str, Any]:
    return {
        "name": entry.name,
        "family": family,
        "aliases": list(entry.aliases),
        "channels": entry.channels,
        "repeats": entry.repeats,
        "like": entry.like,
        "preset": dict(entry.preset),
        "takes_weights": entry.takes_weights,
        "site": entry.site,
        "parameters": parameters_of(entry),
        "summary": entry.summary,
        "origin": entry.origin,
        "paper": entry.provenance.paper,
        "source": entry.provenance.source,
        "licence": entry.provenance.licence,
        "weights_licence": entry.provenance.weights_licence,
    }
