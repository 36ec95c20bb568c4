"""``detgraft list``: the catalogue as a table."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from detgraft.catalog.registry import catalogue, list_grafts
from detgraft.catalog.spec import Graft
from detgraft.errors import CatalogError, nearest


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
    table = Table(title=f"{len(entries)} grafts")
    for heading in ("name", "also", "channels", "default site", "what it is", "paper", "licence"):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        table.add_row(
            entry.name,
            ", ".join(entry.aliases),
            entry.channels,
            entry.site,
            entry.summary,
            entry.provenance.paper,
            entry.provenance.licence,
        )
    Console().print(table)


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
