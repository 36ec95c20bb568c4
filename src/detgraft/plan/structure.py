"""Terms of an expression that change the skeleton itself: levels of the pyramid, then the neck.

They are applied before all other grafts, levels first and then the neck, whatever order they are written in. Each is a
function from a base (its plan, and the stride of every layer) to rows with origins. These rows are planned and run on
the meta device as a new base (:mod:`detgraft.upstream.describe.expressions`), so that the grafts after it claim, count
(``@head.N``) and refer to the rows that are there then. Origins are composed, so transfer carries what stays.

A further one needs two things:

1. A function in ``plan/``::

       def bifpn(base: Base, repeats: int = 1) -> Composition:
           nodes = base.nodes()               # rows as objects, each with the base layer that it stands for (origin)
           ...                                # move, add and rewire them; a new or retyped one has origin None
           return base.written(nodes, ["a note for the log"])

   What follows ``base`` are the term's keywords, checked by name and annotation as those of any graft
   (``from=x`` in an expression arrives as ``from_``). Where the base does not allow it, it raises ``base.refuse(...)``.

2. A catalogue entry with ``channels="structure"``, ``site="level"`` or ``"neck"`` (the order in which they are applied)
   and ``target="detgraft.plan.FILE:FUNCTION"``. It appears in ``detgraft list``; a YAML row cannot name it.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from detgraft.catalog.spec import Graft
from detgraft.errors import Location, PlanError
from detgraft.plan.compose import Composition, Node, nodes_of, write_rows
from detgraft.plan.expression import GraftTerm
from detgraft.plan.rows import Plan

STRUCTURE = "structure"
"""Channel rule of the catalogue entries of such terms."""

SITES = ("level", "neck")
"""Their sites, in the order in which they are applied."""

Term = tuple[GraftTerm, Graft]


@dataclass(frozen=True)
class Base:
    """What a structural term works on.

    Args:
        name: What the base is called in messages, with the terms applied so far: ``yolov8n+p2``.
        term: The term as written, for messages.
        plan: Its plan.
        strides: Stride of each layer's output relative to the image, where that is one feature.
        neck_stays: Whether its neck stays; False where a neck is put in its place afterwards.
    """

    name: str
    term: str
    plan: Plan
    strides: Mapping[int, int]
    neck_stays: bool = True

    def nodes(self) -> list[Node]:
        """Return the rows as objects that can be moved, in order, each with its layer index as its origin."""
        return nodes_of(self.plan)

    def stride(self, node: Node) -> int:
        """Return the stride of a base row's output; 0 where that is no single feature, and for a new row."""
        return self.strides.get(node.origin, 0) if node.origin is not None else 0

    def written(self, nodes: Sequence[Node], notes: Iterable[str] = ()) -> Composition:
        """Number the rows and write them down.

        Args:
            nodes: All rows, backbone first, the head last.
            notes: What a reader should know, in sentences.
        """
        return write_rows(nodes, Composition(notes=list(notes)))

    def refuse(self, reason: str) -> PlanError:
        """Return the error that says why the term cannot be applied to this base."""
        return PlanError(f"'{self.term}' cannot be applied to {self.name}: {reason}", Location(self.name))


def is_structural(entry: Graft) -> bool:
    """Say whether a catalogue entry changes the skeleton rather than standing in a row."""
    return entry.channels == STRUCTURE


def in_order(terms: Iterable[Term]) -> list[Term]:
    """Return the structural ones of an expression's terms in the order in which they are applied.

    Raises:
        PlanError: Two of them are necks.
    """
    found = [(term, entry) for term, entry in terms if is_structural(entry)]
    necks = [str(term) for term, entry in found if entry.site == "neck"]
    if len(necks) > 1:
        raise PlanError(f"'{necks[0]}' and '{necks[1]}' both replace the neck; a model has one")
    return sorted(found, key=lambda pair: (SITES.index(pair[1].site), pair[1].name))


def apply(term: GraftTerm, entry: Graft, base: Base) -> Composition:
    """Apply one structural term.

    Args:
        term: The term.
        entry: Its catalogue entry.
        base: What it is applied to.

    Returns:
        The new rows; ``origins`` are layers of ``base``.

    Raises:
        PlanError: The base does not allow it, or its site was narrowed.
        ArgumentError: Arguments that it does not have.
    """
    if term.section is not None:
        raise PlanError(f"'{term}' changes the whole model; its site cannot be narrowed", Location(base.name))
    given = {f"{name}_" if keyword.iskeyword(name) else name: value for name, value in term.keywords.items()}
    bound = entry.bind((), given, Location(f"{base.name}+{term}"))
    changed: Composition = entry.load()(base, **entry.preset, **bound)
    return changed


def followed(first: Sequence[int | None], second: Sequence[int | None]) -> list[int | None]:
    """Compose origins: which layer of the first base each layer of the last rows continues.

    Args:
        first: Origins of the intermediate rows.
        second: Origins of the last rows, among the intermediate ones.
    """
    return [None if layer is None else first[layer] for layer in second]
