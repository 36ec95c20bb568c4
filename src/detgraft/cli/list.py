"""``detgraft list``: the catalogue by family, the shells and the losses, all in the same columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from detgraft.catalog.losses import Loss, losses
from detgraft.catalog.parameters import PARAMETERS
from detgraft.catalog.registry import FAMILIES, catalogue, families
from detgraft.catalog.search import Found, search_all
from detgraft.catalog.shells import CSP, SHELLS, Shell, csp_modules
from detgraft.catalog.spec import Graft
from detgraft.cli.tables import Column, fits, print_pieces, print_prose, print_table
from detgraft.errors import CatalogError, nearest
from detgraft.plan.typed import as_typed

WIDE = 140
"""Characters in a line from which on an entry takes one line with everything, where all tables fit."""

KINDS = (*FAMILIES, "shells", "losses")
"""What can be asked for as a whole."""

_INDENT, _DEEPER, _GAP, _LICENCE = "  ", "    ", 2, 16

_ONE = {"grafts": "graft", "shells": "shell", "losses": "loss"}

_COLUMNS = (
    Column("name"),
    Column("goes where"),
    Column("parameters", right=True),
    Column("licence", prose=True),
    Column("what it is", prose=True),
    Column("options", prose=True),
    Column("also", prose=True),
    Column("channels"),
    Column("paper", prose=True),
)


@dataclass(frozen=True)
class _Line:
    """An entry as it is printed; the fields are the columns."""

    name: str
    place: str
    parameters: str
    licence: str
    text: str
    options: str = ""
    also: str = ""
    channels: str = ""
    paper: str = ""


@dataclass(frozen=True)
class _Group:
    """Entries under a title.

    Args:
        kind: What they are, in the plural.
        title: The title.
        lines: The entries.
    """

    kind: str
    title: str
    lines: tuple[_Line, ...]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        return [astuple(line) for line in self.lines]


def command(pattern: str, *, as_json: bool) -> None:
    """Print the grafts, shells and losses that a word means; ``shells`` and ``losses`` stand for all of them.

    Raises:
        CatalogError: Nothing matches.
    """
    found = search_all(as_typed(pattern))
    if not (found.grafts or found.shells or found.losses):
        known = [*catalogue.names(), *losses.names(), *(shell.name for shell in SHELLS), *KINDS]
        raise CatalogError(
            f"no graft matches '{pattern}'.{nearest(pattern.strip('*'), known)} `detgraft list` shows all of them; "
            f"families are {', '.join(KINDS)}"
        )
    if as_json:
        data = [_data(entry, family) for family, members in families(found.grafts) for entry in members]
        if pattern != "*":  # everything is the blocks' catalogue, as it was before there was anything else
            data += [*map(_shell_data, found.shells), *map(_loss_data, found.losses)]
        print(json.dumps(data, indent=2, ensure_ascii=False))
        return
    _print(_groups(found), Console())


def _groups(found: Found) -> list[_Group]:
    groups = [_Group("grafts", title, tuple(map(_of_graft, members))) for title, members in families(found.grafts)]
    if found.shells:
        lines = [_of_shell(shell) for shell in found.shells]
        if len(found.shells) == len(SHELLS):
            others = " and ".join(shell.name for shell in SHELLS if shell.name not in csp_modules())
            lines.append(_Line(f"{CSP}(X)", "every shell", "-", "-", f"all of these that the base has but {others}"))
        groups.append(_Group("shells", "Stock shells with any block X inside", tuple(lines)))
    if found.losses:
        groups.append(
            _Group("losses", "Losses, named in an expression as blocks are", tuple(map(_of_loss, found.losses)))
        )
    return groups


def _print(groups: Sequence[_Group], console: Console) -> None:
    wide = console.width >= WIDE and all(fits(console, _COLUMNS, group.rows) for group in groups)
    lines = [line for group in groups for line in group.lines]
    widths = [
        max(cell_len(text) for text in (column.heading, *(astuple(line)[number] for line in lines)))
        for number, column in enumerate(_COLUMNS[:3])
    ]
    if len(_INDENT) + sum(widths) + 3 * _GAP + _LICENCE > console.width:
        widths = []
    if widths and not wide:
        _print_aligned(console, _Line(*(column.heading for column in _COLUMNS[:5])), widths, "dim")
    for group in groups:
        if wide:
            print_table(console, group.title, _COLUMNS, group.rows)
        else:
            print_prose(console, group.title, style="bold")
        for line in () if wide else group.lines:
            if widths:
                _print_aligned(console, line, widths)
            else:
                _print_stacked(console, line)
            print_prose(console, line.text, _DEEPER, "dim")
            print_prose(console, f"options: {line.options}" if line.options else "", _DEEPER, "dim")
        console.print()
    counts = {kind: sum(len(group.lines) for group in groups if group.kind == kind) for kind in _ONE}
    found = [f"{count} {kind if count > 1 else _ONE[kind]}" for kind, count in counts.items() if count]
    print_prose(console, ", ".join(found))
    figures = "parameters at 256 channels (of a backbone: all); " if counts["grafts"] else ""
    more = "" if wide else "other names, channel rules and papers: --json, or a wider window; "
    print_prose(console, f"{figures}{more}docs/catalogue.md, docs/shells.md, docs/losses.md")


def _print_aligned(console: Console, line: _Line, widths: Sequence[int], style: str = "") -> None:
    """One line with the columns below each other; a licence of several words goes on in its own column."""
    cells = f"{_INDENT}{line.name:<{widths[0]}}  {line.place:<{widths[1]}}  {line.parameters:>{widths[2]}}  "
    room, rest = console.width - len(cells), ""
    licence: list[str] = []
    for word in line.licence.split():
        if rest and len(rest) + len(word) + 1 > room:
            licence.append(rest)
            rest = word
        else:
            rest = f"{rest} {word}" if rest else word
    for number, part in enumerate([*licence, rest]):
        console.print(Text(f"{cells if not number else ' ' * len(cells)}{part}", style), soft_wrap=True)


def _print_stacked(console: Console, line: _Line) -> None:
    """The name, and below it the rest with commas between."""
    console.print(Text(f"{_INDENT}{line.name}"), soft_wrap=True)
    figure = f"{line.parameters} parameters" if line.parameters != "-" else ""
    print_pieces(console, [piece for piece in (line.place, figure, line.licence) if piece not in ("", "-")], _DEEPER)


def _of_graft(entry: Graft) -> _Line:
    return _Line(
        entry.name,
        entry.site or "-",
        short(parameters_of(entry)),
        _licence(entry),
        entry.summary,
        also=", ".join(entry.aliases),
        channels=entry.channels,
        paper=entry.provenance.paper,
    )


def _of_shell(shell: Shell) -> _Line:
    return _Line(
        f"{shell.name}(X)",
        shell.name,
        "-",
        "-",
        _shell_text(shell),
        f"at={' or '.join(shell.places)}",
        f"{shell.alias}(X)" if shell.alias else "",
    )


def _shell_text(shell: Shell) -> str:
    return f"stock {shell.name} with X in or in place of its {' or '.join(shell.units)}"


def _of_loss(entry: Loss) -> _Line:
    return _Line(
        entry.name,
        f"{entry.kind} loss",
        "-",
        entry.provenance.licence or "-",
        entry.summary,
        ", ".join(f"{name}={option.default}" for name, option in entry.options.items()),
        ", ".join(entry.aliases),
        paper=entry.provenance.paper,
    )


def _shell_data(shell: Shell) -> dict[str, Any]:
    return {
        "name": f"{shell.name}(X)",
        "aliases": [f"{shell.alias}(X)"] if shell.alias else [],
        "shell": shell.name,
        "units": list(shell.units),
        "places": list(shell.places),
        "csp": shell.is_csp,
        "summary": _shell_text(shell),
    }


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
