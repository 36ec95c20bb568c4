"""Stock shells with a block inside, as an expression or a row's module name writes them: ``c3k2(faster,at=cv2)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detgraft.catalog.registry import catalogue
from detgraft.catalog.shells import CSP, Shell, csp_modules, goes_inside, place_in, shell_of, shelled
from detgraft.catalog.spec import Filling, Graft
from detgraft.errors import ArgumentError, CatalogError, Location, PlanError, nearest
from detgraft.plan.expression import GraftTerm, parse_module


def entry_of(term: GraftTerm, where: Location) -> Graft:
    """Return what a term of an expression means.

    Args:
        term: The term.
        where: The expression, for messages.

    Raises:
        CatalogError: There is no such graft.
        PlanError: A shell without a block inside, or the other way round.
        ArgumentError: A place that the shell does not have, or options that the block does not have.
    """
    shells = _shells_of(term.name)
    if term.inner is None:
        if shells:
            raise PlanError(
                f"'{term}' is a shell; say in parentheses which block goes inside, as in {term.name.lower()}(faster)",
                where,
            )
        return catalogue.get(term.name, where)
    if not shells:
        entry = catalogue.get(term.name, where)
        raise PlanError(f"'{term}': '{entry.name}' takes no graft inside it; an argument is written NAME=VALUE", where)
    block, options = _inside(term, term.inner, where)
    at = _place(term, shells, block, where)
    if term.name.lower() == CSP:
        return Graft(
            name=CSP,
            target="",
            channels="scaled",
            site=CSP,
            summary=f"cross-stage blocks with {block.name} inside",
            filling=Filling(CSP, block.name, at, options),
        )
    return in_shell(shells[0], block, at, options)


def in_shell(shell: Shell, block: Graft, at: str, options: Mapping[str, Any]) -> Graft:
    """Make the entry of a shell with a block inside, under the name that its rows have in a model YAML.

    Args:
        shell: The shell.
        block: The block.
        at: Where it goes; empty for its own default.
        options: Its options.
    """
    inner = GraftTerm(block.name, keywords=options)
    name = str(GraftTerm(shell.name, keywords={"at": at} if at else {}, inner=inner))
    return shelled(name, shell, block, Filling(shell.name, block.name, at, options))


def in_row(entry: Graft, module: str) -> Graft:
    """Return the entry for one row of the base.

    Args:
        entry: What a term means, see `entry_of`.
        module: The module of the row.
    """
    filling, shell = entry.filling, shell_of(module)
    assert filling is not None
    assert shell is not None  # the rows were chosen for it
    return in_shell(shell, catalogue.get(filling.block), filling.at, filling.options)


def is_shell_text(name: str) -> bool:
    """Say whether a row's module name is meant as a shell with a block in parentheses."""
    head, parenthesis, _ = name.partition("(")
    return bool(parenthesis) and shell_of(head.strip()) is not None


def read_module(name: str, where: Location) -> Graft:
    """Return what a row's module name means that is a shell with a block in parentheses.

    Raises:
        PlanError: Grammar, or a place that the shell does not have.
        CatalogError: There is no such block.
        ArgumentError: Options that the block does not have.
    """
    catalogue.complete()
    known = _read.get(name)
    if known is not None and known[0] == catalogue.revision:
        return known[1]
    try:
        term = parse_module(name)
    except PlanError as error:
        raise PlanError(f"the module name cannot be read: {error}", where) from error
    entry = entry_of(term, where)
    if len(_read) >= _REMEMBERED:
        _read.clear()
    _read[name] = catalogue.revision, entry
    return entry


_REMEMBERED = 512
_read: dict[str, tuple[int, Graft]] = {}
"""Entries by the names that were read, each with the catalogue's revision: a build asks for every row several times."""


def _shells_of(name: str) -> list[Shell]:
    names = csp_modules() if name.lower() == CSP else (name,)
    return [shell for shell in map(shell_of, names) if shell is not None]


def _inside(term: GraftTerm, inner: GraftTerm, where: Location) -> tuple[Graft, dict[str, Any]]:
    block = catalogue.get(inner.name, where)
    if inner.inner is not None:
        raise PlanError(f"'{term}': '{block.name}' takes no graft inside it; an argument is written NAME=VALUE", where)
    if not goes_inside(block):
        kinds = {"pyramid": "a backbone", "concat": "it joins several inputs"}
        kind = kinds.get(block.channels, f"its channel rule is '{block.channels}'")
        reason = "a shell itself" if block.filling is not None or block.like is not None else kind
        raise CatalogError(f"'{term}': '{block.name}' cannot go inside a shell ({reason})", where)
    return block, block.bind((), inner.keywords, where)


def _place(term: GraftTerm, shells: list[Shell], block: Graft, where: Location) -> str:
    unknown = sorted(set(term.keywords) - {"at"})
    if unknown:
        raise ArgumentError(
            f"'{term}' takes at= and has the rows' own arguments; found {', '.join(unknown)}. Options of {block.name} "
            f"stand behind its own name: {term.name}({block.name}({unknown[0]}=...))",
            where,
        )
    at = term.keywords.get("at", "")
    places = list(dict.fromkeys(place for shell in shells for place in shell.places))
    if "at" in term.keywords and at not in places:
        raise ArgumentError(
            f"'{term}': at= is one of {', '.join(places)} here, found {at!r:.40}.{nearest(str(at), places)}", where
        )
    # The block's own place need not be said; what the row is called then does not depend on how it was written.
    default = all(place_in(unit, block) == at for shell in shells for unit in shell.units)
    return "" if default else str(at)
