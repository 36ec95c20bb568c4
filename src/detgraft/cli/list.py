"""``detgraft list``: the catalogue as a table."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from detgraft.catalog.registry import catalogue, list_grafts
from detgraft.catalog.spec import Graft
from detgraft.errors import CatalogError, nearest

WIDE = 140
"""Characters in a line from which on the table shows everything."""


def command(pattern: str, *, as_json: bool) -> None:
    """Print the grafts whose name matches a pattern.

    Raises:
        CatalogError: Nothing matches.
    """
    entries = list_grafts(pattern)
    if not entries:
        raise CatalogError(f"no graft matches '{pattern}'.{nearest(pattern.strip('*'), catalogue.names())}")
    if as_json:
        print(json.dumps([_data(entry) for entry in entries], indent=2, ensure_ascii=False))
        return
    console = Console()
    wide = console.width >= WIDE
    table = Table(title=f"{len(entries)} grafts")
    table.add_column("name", no_wrap=True)
    table.add_column("default site", no_wrap=True)
    for heading in ("what it is", *(("also", "channels", "paper", "licence") if wide else ())):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        more = (", ".join(entry.aliases), entry.channels, entry.provenance.paper, entry.provenance.licence)
        table.add_row(entry.name, entry.site, entry.summary, *(more if wide else ()))
    console.print(table)
    if not wide:
        console.print("Other names, channel rules, papers and licences: --json, or a wider window", highlight=False)


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
