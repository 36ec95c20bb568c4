"""The losses of a model description: what stands under ``losses:``, and what an expression writes there.

A loss is no row. It stands in the description beside the rows, as the texts that an expression has for it, so it goes
wherever the description goes: into a checkpoint, a resumed training, the processes of a distributed one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detgraft.catalog.losses import KINDS, Loss, losses
from detgraft.errors import DetgraftError, Location, PlanError
from detgraft.plan.expression import Expression, GraftTerm, parse_term

KEY = "losses"
"""Key of a description that holds its loss terms; Ultralytics ignores it."""


@dataclass(frozen=True)
class LossTerm:
    """A loss as a description asks for it.

    Args:
        entry: Its entry in the catalogue.
        term: Its name and options as written.
    """

    entry: Loss
    term: GraftTerm

    def __str__(self) -> str:
        return str(self.term)


def is_loss(term: GraftTerm) -> bool:
    """Say whether a term of an expression is a loss."""
    return losses.find(term.name) is not None


def without_losses(expression: Expression) -> Expression:
    """Return an expression without its loss terms."""
    return Expression(expression.base, tuple(term for term in expression.grafts if not is_loss(term)))


def added(mapping: Mapping[str, Any], expression: Expression) -> list[str]:
    """Return the loss terms of a base and of an expression on it, as they are written into the description.

    Args:
        mapping: The base's description.
        expression: The expression.

    Raises:
        DetgraftError: Two terms of one kind, or one that the catalogue refuses.
    """
    where = Location(str(expression))
    texts = [str(found) for found in losses_of(mapping, Location(expression.base))]
    texts += [str(term) for term in expression.grafts if is_loss(term)]
    return [str(found) for found in _resolved(texts, where)]


def losses_of(mapping: Mapping[str, Any], where: Location | None = None) -> list[LossTerm]:
    """Return the losses that a description asks for, box before class.

    Args:
        mapping: A model description.
        where: Where it is written.

    Raises:
        DetgraftError: The key holds something else, two terms of one kind, or one that the catalogue refuses.
    """
    given = mapping.get(KEY)
    if given is None:
        return []
    where = where or Location(str(mapping.get("yaml_file") or "model description"))
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise PlanError(
            f"'{KEY}:' takes a loss, or a list of a box and a class loss, such as [wiou, varifocal]; found "
            f"{given!r:.80}",
            where,
        )
    return _resolved(texts, where)


def _resolved(texts: Sequence[str], where: Location) -> list[LossTerm]:
    found: dict[str, LossTerm] = {}
    for text in texts:
        try:
            term = parse_term(text)
        except DetgraftError as error:
            raise PlanError(f"in '{KEY}:', {error}", where) from error
        entry = losses.get(term.name, where)
        if term.section is not None:
            raise PlanError(f"'{term}' is a loss and has no site; leave the '@' out", where)
        if term.inner is not None:
            raise PlanError(f"'{term}' is a loss; no graft goes inside it", where)
        entry.check(term.keywords, where)
        other = found.get(entry.kind)
        if other is not None:
            raise PlanError(f"'{other}' and '{term}' are both {entry.kind} losses; a model has one", where)
        found[entry.kind] = LossTerm(entry, term)
    return [found[kind] for kind in KINDS if kind in found]


def sentences(mapping: Mapping[str, Any]) -> list[str]:
    """Say which losses a description asks for, one sentence for each.

    Raises:
        DetgraftError: See :func:`losses_of`.
    """
    return [f"{found.entry.kind} loss: {found}, {found.entry.summary}" for found in losses_of(mapping)]
