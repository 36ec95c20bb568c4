"""The catalogue: every graft by name, looked up, listed with wildcards, extended by plug-ins."""

from __future__ import annotations

import fnmatch
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from detgraft.base.notebook import html_table
from detgraft.catalog import shells
from detgraft.catalog.families import (
    attention,
    backbones,
    downsampling,
    dynamic,
    fusion,
    levels,
    necks,
    refining,
    stages,
    units,
    upsampling,
)
from detgraft.catalog.public import OTHERWISE
from detgraft.catalog.spec import CHANNEL_RULES, NAME, REPEAT_RULES, ChannelRule, Graft, Provenance, RepeatRule
from detgraft.errors import CatalogError, Location, nearest

TIMM_PREFIX = "timm/"


class Catalogue:
    """Grafts by name. Collisions raise; nothing is ever replaced silently."""

    def __init__(self, entries: tuple[Graft, ...] = ()) -> None:
        self._by_name: dict[str, Graft] = {}
        self.revision = 0  # grows whenever a name's meaning may have changed
        self._reserved: Callable[[str], bool] = lambda _name: False
        self._supplier: Callable[[], None] | None = None
        self._is_supplying = False
        self._held: Callable[[], Iterable[str]] = tuple
        self._lock = threading.RLock()
        for entry in entries:
            self.add(entry)

    def reserve(self, is_stock: Callable[[str], bool]) -> None:
        """Tell which names belong to stock Ultralytics and cannot be registered.

        Raises:
            CatalogError: Such a name was registered before Ultralytics was imported.
        """
        self._reserved = is_stock
        for name, entry in self._by_name.items():
            self._refuse_stock(name, entry)

    def shared_with(self, names: Callable[[], Iterable[str]]) -> None:
        """Tell which names the other things of an expression have, which no graft can have, too.

        Args:
            names: Returns them, in small letters.

        Raises:
            CatalogError: A graft was registered under such a name.
        """
        self._held = names
        for name, entry in self._by_name.items():
            self._refuse_held(name, entry)

    def supplied_by(self, supplier: Callable[[], None]) -> None:
        """Have ``supplier`` register what else there is, once, before the first question about a name not of stock.

        Args:
            supplier: Called without arguments. What it raises reaches whoever asks; the next question calls it again.
        """
        self._supplier = supplier

    def complete(self) -> None:
        """Let the supplier register its entries now, unless it has done so.

        Raises:
            CatalogError: An installed or inherited plug-in fails.
        """
        with self._lock:
            if self._supplier is None or self._is_supplying:  # what it registers asks questions, too
                return
            self._is_supplying = True
            try:
                self._supplier()
                self._supplier = None
            finally:
                self._is_supplying = False

    def is_stock(self, name: str) -> bool:
        """Say whether a name belongs to stock Ultralytics; False while that is not imported."""
        return self._reserved(name)

    def add(self, entry: Graft) -> None:
        """Add an entry under its name, its aliases and their lower-case forms.

        Raises:
            CatalogError: A name is taken by another graft or by a stock module, or no expression can hold it.
        """
        for name in (entry.name, *entry.aliases):
            refuse_unwritable(name)
        names = dict.fromkeys((entry.name, *entry.aliases, entry.name.lower(), *(a.lower() for a in entry.aliases)))
        for name in names:
            taken = self._by_name.get(name)
            if taken is not None:
                raise CatalogError(
                    f"the name '{name}' is already registered (by {taken.origin} as '{taken.name}'); choose another"
                )
            self._refuse_stock(name, entry)
            self._refuse_held(name, entry)
        for name in names:
            self._by_name[name] = entry
        self.revision += 1

    def _refuse_stock(self, name: str, entry: Graft) -> None:
        if entry.origin != "detgraft" and self._reserved(name):
            raise CatalogError(f"'{name}' is the name of a stock Ultralytics module; choose another")

    def _refuse_held(self, name: str, entry: Graft) -> None:
        if entry.origin != "detgraft" and name.lower() in self._held():
            raise CatalogError(f"'{name}' is the name of a loss; choose another")

    def remove(self, name: str) -> None:
        """Take an entry out again, with all its names."""
        entry = self.get(name)
        self._by_name = {key: value for key, value in self._by_name.items() if value is not entry}
        self.revision += 1

    def find(self, name: str) -> Graft | None:
        """Return the entry for a name as written in a YAML row, or None."""
        if self._supplier is not None and not self._reserved(name):
            self.complete()
        if name.startswith(TIMM_PREFIX):
            return timm_entry(name)
        return self._by_name.get(name) or self._shelled(name)

    def _shelled(self, name: str) -> Graft | None:
        """What a name means as that of a stock shell with a block inside; an entry of that name comes first."""
        if shells.split_name(name) is None:
            return None
        return self._any_case(name) or shells.by_rule(name, self._any_case)

    def _any_case(self, name: str) -> Graft | None:
        return self._by_name.get(name) or self._by_name.get(name.lower())

    def get(self, name: str, location: Location | None = None) -> Graft:
        """Return the entry for a name, without regard to case.

        Raises:
            CatalogError: No such graft; the message names the nearest ones.
        """
        entry = self.find(name) or self._by_name.get(name.lower())
        if entry is None:
            raise CatalogError(
                f"there is no graft '{name}'.{self.advice(name, self._held())} `detgraft list` shows all of them",
                location,
            )
        return entry

    def advice(self, name: str, others: Iterable[str] = ()) -> str:
        """Return the sentence that leads on from a name that does not exist: what was meant, or how to make it one.

        Args:
            name: The unknown name.
            others: Further names that would have been accepted.
        """
        if name in OTHERWISE:
            return f" {OTHERWISE[name]}."
        shell, head, rest = shells.parts_of(name)
        for entry in self:
            if rest.lower() in (known.lower() for known in entry.known_as):
                return f" Did you mean '{head}{entry.name}'? Elsewhere its row may be written differently."
        others = list(others)
        if shell is not None:
            found = nearest(rest, shells.names_inside(self))
            if found:
                return found.replace(" '", f" '{head}")
            return f" {shell.name} is a shell for any block that keeps its size; `detgraft list` shows them."
        inside = shells.block_at_end(name, self._any_case)
        if inside is not None:
            proposed, block = inside
            return (
                f" Did you mean '{proposed}'? {block.name} goes inside a stock shell that way, and in the expression "
                f"BASE+{shells.CSP}({block.name.lower()})."
            )
        prefixed = [other for other in others if other.rpartition(".")[2].lower() == name.lower()]
        # Two letters resemble too many names.
        found = nearest(name, prefixed or (others if len(name) < 3 else [*self._by_name, *others]))
        if prefixed or found:
            return f" Did you mean {' or '.join(map(repr, prefixed))}?" if prefixed else found
        return (
            " An own block is a Python file with @register, loaded with plugins=FILE; `detgraft new block NAME` writes "
            "one to begin with."
        )

    def __iter__(self) -> Iterator[Graft]:
        """Go through the entries, each once, in the order of registration."""
        return iter(dict.fromkeys(self._by_name.values()))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def names(self) -> list[str]:
        """Return every accepted name, aliases included."""
        return sorted(self._by_name)

    def match(self, pattern: str = "*") -> list[Graft]:
        """Return the entries whose name or alias matches a wildcard pattern, without regard to case."""
        pattern = pattern.lower()
        return [
            entry
            for entry in self
            if any(fnmatch.fnmatchcase(name.lower(), pattern) for name in (entry.name, *entry.aliases))
        ]


def refuse_unwritable(name: object) -> None:
    """Raise for a name that no graft expression can hold.

    Raises:
        CatalogError: Says what a name looks like.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name) or not name.isascii():
        raise CatalogError(
            f"a graft expression cannot hold the name {name!r:.80}: it begins with a letter or _ and goes on with "
            "letters, digits, _, - and ."
        )
    if name.lower().endswith((".yaml", ".yml")) or name.startswith(("nn.", "torchvision.", TIMM_PREFIX)):
        raise CatalogError(
            f"the name {name!r:.80} would be read as a file's, or as a module of torch, torchvision or timm"
        )


def timm_entry(name: str) -> Graft:
    """Return the entry for ``timm/NAME``; whether timm knows NAME is found out when it is built."""
    return Graft(
        name=name,
        target="detgraft.blocks.backbones.timm_backbone:TimmBackbone",
        channels="pyramid",
        preset={"name": name.removeprefix(TIMM_PREFIX)},
        site="backbone",
        summary="a backbone of timm",
        takes_weights=True,
    )


# The order in which `detgraft list` shows them. Data only; a class is imported when a model needs it.
_FAMILIES = (backbones, dynamic, upsampling, attention, downsampling, stages, units, fusion, refining, levels, necks)

FAMILIES = {str(family.__name__).rpartition(".")[2]: tuple(family.GRAFTS) for family in _FAMILIES}
"""The entries of detgraft's own families, by the name of the family's file."""

catalogue = Catalogue(tuple(graft for grafts in FAMILIES.values() for graft in grafts))


class Grafts(list[Graft]):
    """Entries of the catalogue; a notebook shows them as a table."""

    def _repr_html_(self) -> str:
        rows = [(one.name, one.site, one.channels, one.summary, one.provenance.paper) for one in self]
        headings = ("name", "default site", "channels", "what it is", "paper")
        return html_table(f"{len(self)} grafts", headings, rows)


def families(entries: Iterable[Graft]) -> list[tuple[str, list[Graft]]]:
    """Sort entries by family.

    Args:
        entries: Entries of the catalogue.

    Returns:
        The title of each family that has any, in order, and its entries; those of plug-ins come last.
    """
    wanted = list(entries)
    found = [(_title(family.__doc__), [e for e in family.GRAFTS if e in wanted]) for family in _FAMILIES]
    sorted_in = {id(entry) for _, members in found for entry in members}
    found.append(("Own blocks and plug-ins", [entry for entry in wanted if id(entry) not in sorted_in]))
    return [(title, members) for title, members in found if members]


def _title(text: str | None) -> str:
    return re.split(r"[.:;](?: |$)", (text or "").strip().partition("\n")[0])[0]


_DEFAULT_SITES = {
    "pyramid": "backbone",
    "same": "upsample",
    "concat": "Concat",
    "fuse": "Concat",
    "refine": "before the head",
}


def register(
    name: str,
    *,
    channels: ChannelRule,
    repeats: RepeatRule | None = None,
    aliases: tuple[str, ...] = (),
    site: str = "",
    summary: str = "",
    like: str | None = None,
    preset: Mapping[str, Any] | None = None,
    takes_weights: bool = False,
    drops: tuple[str, ...] = (),
    provenance: Provenance | None = None,
    at: str = "",
) -> Callable[[Any], Any]:
    """Register an own block under a name that YAML rows and graft expressions can use.

    The decorated nn.Module takes, first and positionally: the input channels and the output channels
    (``scaled``, ``fixed``), the input channels alone (``same``, ``pyramid``), the list of them (``concat``,
    ``refine``), or that list and the output channels (``fuse``); with ``repeats="inside"`` then the number of repeats.
    A ``pyramid`` has the attributes ``channels`` and ``reductions`` (tuples, one entry per feature) and returns a list
    of features. A ``concat`` or ``fuse`` block is called with a list of tensors. A ``refine`` takes a list of features
    of the same picture, the finest first, and returns a list as long, whose channels it says in its attribute
    ``channels``.

    Args:
        name: The new name.
        channels: Channel rule, see :class:`detgraft.catalog.spec.Graft`.
        repeats: Repeat rule, see there.
        aliases: Other names.
        site: Default site in expressions: ``backbone``, ``stage``, ``upsample``, ``downsample``, or a stock module's
            name, whose rows it replaces. By default ``backbone`` for a pyramid, ``upsample`` for a block that keeps its
            channels, ``Concat`` for one with several inputs, and the module that it is ``like``.
        summary: One line for ``detgraft list``; the class's docstring by default.
        like: A stock module whose parser rule the row follows, whatever the installed release does for it.
        preset: Arguments that the name fixes; rows cannot give them.
        takes_weights: A pyramid's row may name a weights file; its tensors have the names of the backbone's own.
        drops: Arguments of a replaced row that have no meaning for the block.
        provenance: Paper, source and licence, for ``detgraft list``.
        at: Where the block goes inside a stock shell by default, a key of `detgraft.catalog.shells.PLACES`:
            ``bottleneck``, ``cv1``, ``cv2``, ``after``, ``attn`` or ``ffn``. By default ``cv2`` for a block with output
            channels, ``after`` for one whose site is ``stage``, and ``bottleneck`` for the others. Rows of checkpoints
            do not name it, so it stays as it is once there are any.

    Raises:
        CatalogError: An unknown rule or place, a name that is taken, a constructor that does not fit the rule, or a
            preset that it does not have.
    """
    if channels not in CHANNEL_RULES:
        raise CatalogError(f"channels must be one of {', '.join(CHANNEL_RULES)}, found {channels!r}")
    if repeats not in REPEAT_RULES:
        raise CatalogError(f"repeats must be None, 'stack' or 'inside', found {repeats!r}")
    if like is not None and channels != "scaled":
        raise CatalogError(f"like={like!r} goes with channels='scaled', since its rule scales them; found {channels!r}")
    if takes_weights and channels != "pyramid":
        raise CatalogError(f"takes_weights goes with channels='pyramid', a backbone; found {channels!r}")
    if at and at not in shells.PLACES:
        places = ", ".join(shells.PLACES)
        raise CatalogError(
            f"at= is the block's place inside a stock shell, one of {places}, found {at!r:.40}."
            f"{nearest(str(at), shells.PLACES)}"
        )

    def decorate(target: Any) -> Any:
        entry = Graft(
            name=name,
            target=target,
            channels=channels,
            repeats=repeats,
            aliases=aliases,
            preset=dict(preset or {}),
            like=like,
            site=site or _DEFAULT_SITES.get(channels, like or ""),
            summary=summary or (target.__doc__ or "").strip().partition("\n")[0],
            provenance=provenance or Provenance(),
            origin=str(target.__module__),
            takes_weights=takes_weights,
            drops=tuple(drops),
            at=at,
        )
        if at and not shells.goes_inside(entry):
            raise CatalogError(
                f"at={at!r} is a place inside a stock shell, where '{name}' cannot go: that takes channels='same', "
                "'scaled' or 'fixed', and no like="
            )
        entry.parameters()  # a constructor that does not fit the rule is refused now, not when a model is built
        entry.refuse_other_presets()
        catalogue.add(entry)
        return target

    return decorate
