"""``detgraft list``: the catalogue as a table."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from detgraft.catalog.losses import Loss, list_losses, losses
from detgraft.catalog.registry import catalogue, list_grafts
from detgraft.catalog.spec import Graft
from detgraft.errors import CatalogError, nearest

LOSSES = "losses"
"""The pattern for all losses and nothing else."""

WIDE = 140
"""Characters in a line from which on the table shows everything."""


def command(pattern: str, *, as_json: bool) -> None:
    """Print the grafts and the losses whose name matches a pattern; ``losses`` stands for all losses.

    Raises:
        CatalogError: Nothing matches.
    """
    entries = list_grafts(pattern) if pattern != LOSSES else []
    found = list_losses("*" if pattern == LOSSES else pattern)
    if not entries and not found:
        known = [*catalogue.names(), *losses.names()]
        raise CatalogError(f"no graft matches '{pattern}'.{nearest(pattern.strip('*'), known)}")
    if as_json:
        # Everything is the blocks' catalogue, as it was before there were losses; theirs is `list losses`.
        data = [*map(_data, entries), *map(_loss_data, found if pattern != "*" else ())]
        print(json.dumps(data, indent=2, ensure_ascii=False))
        return
    console = Console()
    wide = console.width >= WIDE
    if entries:
        _print_grafts(entries, console, wide)
    if found:
        _print_losses(found, console, wide)
    if not wide:
        console.print("Other names, channel rules, papers and licences: --json, or a wider window", highlight=False)


def _print_grafts(entries: list[Graft], console: Console, wide: bool) -> None:
    table = Table(title=f"{len(entries)} grafts")
    table.add_column("name", no_wrap=True)
    table.add_column("default site", no_wrap=True)
    for heading in ("what it is", *(("also", "channels", "paper", "licence") if wide else ())):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        more = (", ".join(entry.aliases), entry.channels, entry.provenance.paper, entry.provenance.licence)
        table.add_row(entry.name, entry.site, entry.summary, *(more if wide else ()))
    console.print(table)


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


def _data(entry: Graft) -> dict[str, Any]:
    return {
        "name": entry.name,
        "aliases": list(entry.aliases),
        "channels": entry.channels,
        "repeats": entry.repeats,
        "site": entry.site,
        "summary": entry.summary,
        "origin": entry.origin,
        "paper": entry.provenance.paper,
        "source": entry.provenance.source,
        "licence": entry.provenance.licence,
        "weights_licence": entry.provenance.weights_licence,
    }
